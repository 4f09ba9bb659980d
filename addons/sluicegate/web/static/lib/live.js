// The calls of this moment, from /api/events: one stream for the whole page, whoever looks.
import { useState, useEffect } from "./ui.js";
import { placed } from "./api.js";

const KEPT = 200;
const state = { running: new Map(), ended: [], missed: 0, up: false, opened: 0 };
const lookers = new Set();
let source = null,
  told = false;

function tell() {
  // Many calls may end in one moment; the page is drawn once for all of them.
  if (told) return;
  told = true;
  setTimeout(() => {
    told = false;
    for (const look of lookers) look();
  }, 150);
}

function open() {
  source = new EventSource(placed("/api/events"));
  source.onopen = () => {
    state.running.clear();
    state.up = true;
    state.opened++;
    tell();
  };
  source.onerror = () => {
    state.up = false;
    tell();
    // A browser comes back by itself after a break, but not after an answer that says no.
    if (source.readyState === EventSource.CLOSED)
      setTimeout(() => {
        if (wanted() && source?.readyState === EventSource.CLOSED) open();
      }, 5000);
  };
  source.addEventListener("began", (e) => {
    const call = JSON.parse(e.data);
    state.running.set(call.id, call);
    tell();
  });
  source.addEventListener("ended", (e) => {
    const call = JSON.parse(e.data);
    state.running.delete(call.id);
    state.ended.unshift(call);
    state.ended.length = Math.min(state.ended.length, KEPT);
    tell();
  });
  source.addEventListener("missed", (e) => {
    state.missed += JSON.parse(e.data).calls;
    tell();
  });
}

/** Somebody looks at what is on the screen. Tabs behind it let go: a browser keeps six connections to a host, for all tabs. */
const wanted = () => lookers.size > 0 && !document.hidden;

function follow() {
  if (wanted()) {
    if (!source) open();
    return;
  }
  // A change of page looks away and back at once: only who stays away closes it.
  setTimeout(() => {
    if (!lookers.size) closeLive();
    else if (!wanted()) pause();
  }, 2000);
}

function pause() {
  source?.close();
  source = null;
  state.up = false;
}

export function closeLive() {
  pause();
  Object.assign(state, { running: new Map(), ended: [], missed: 0 });
}

document.addEventListener("visibilitychange", follow);

/**
 * `{running: Map, ended: newest first, missed, up, opened}`; opens the stream with the first looker, closes it after the last.
 * `opened` counts how often it was opened: what happened in between is not among `ended`.
 */
export function useLive(on = true) {
  const [, redraw] = useState(0);
  useEffect(() => {
    if (!on) return undefined;
    const look = () => redraw((n) => n + 1);
    lookers.add(look);
    follow();
    return () => {
      lookers.delete(look);
      follow();
    };
  }, [on]);
  return state;
}

/** Redraw every second, for clocks that run. */
export function useTick(on = true, every = 1000) {
  const [, redraw] = useState(0);
  useEffect(() => {
    if (!on) return undefined;
    const timer = setInterval(() => document.hidden || redraw((n) => n + 1), every);
    return () => clearInterval(timer);
  }, [on, every]);
}
