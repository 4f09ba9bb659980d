// What is lost if it is left: text that was typed and is not saved, a value that is shown once. One asks before that.
import { useLayoutEffect, useRef } from "./ui.js";

const TYPED = "What you have typed is not saved. Leave it, and lose it?";

/**
 * By whatever holds it: the question to ask, and whether it outlives the page it was typed on, so that only a reload or
 * signing out loses it.
 *
 * @type {Map<any, {question: string, outlivesPage: boolean}>}
 */
const unsaved = new Map();

/**
 * Note that something would be lost, or with a null question that it no longer would.
 *
 * @param {any} holder
 * @param {string | null} [question]
 */
export function setUnsaved(holder, question = TYPED, { outlivesPage = false } = {}) {
  if (question === null) unsaved.delete(holder);
  else unsaved.set(holder, { question, outlivesPage });
}

/** Whether leaving the page would lose something. */
export const isPageUnsaved = () => [...unsaved.values()].some((of) => !of.outlivesPage);

/** Forget all of it, where somebody else signs in. */
export const forgetUnsaved = () => unsaved.clear();

/** Forget what leaving the page would lose, where that is worth nothing any more. */
export function forgetPageUnsaved() {
  for (const [holder, of] of unsaved) if (!of.outlivesPage) unsaved.delete(holder);
}

/** Ask whether these may be lost; what may be is forgotten, so that nothing asks again. */
function ask(holders) {
  const questions = new Set(holders.map((holder) => unsaved.get(holder)?.question).filter(Boolean));
  // The browser's own question, as before a reload: it holds everything up until it is answered, wherever it is asked.
  // eslint-disable-next-line no-alert
  if (![...questions].every((question) => confirm(question))) return false;
  for (const holder of holders) unsaved.delete(holder);
  return true;
}

/** Ask, if anything would be lost, whether the page may be left. */
export const mayLeavePage = () => ask([...unsaved].filter(([, of]) => !of.outlivesPage).map(([holder]) => holder));

/** Ask, if anything would be lost, whether the document may be left. */
export const mayLeaveDocument = () => ask([...unsaved.keys()]);

/** Ask, if this holder has something, whether that may be lost. */
export const mayLose = (holder) => ask([holder]);

addEventListener("beforeunload", (e) => {
  if (unsaved.size) e.preventDefault();
});

/**
 * While `isUnsaved`, leaving the page asks first, however it is left.
 *
 * @param {boolean} isUnsaved
 * @param {string} [question]
 * @returns {{mayLose: () => boolean, saved: () => void}} to call before it is closed, and once it has been saved
 */
export function useUnsaved(isUnsaved, question = TYPED) {
  const holder = useRef({}).current;
  useLayoutEffect(() => setUnsaved(holder, isUnsaved ? question : null), [isUnsaved, question]);
  useLayoutEffect(() => () => setUnsaved(holder, null), []);
  return { mayLose: () => mayLose(holder), saved: () => setUnsaved(holder, null) };
}
