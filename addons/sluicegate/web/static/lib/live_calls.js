// The calls in flight, from /api/events: one stream for the whole page, however many components show it.
import { useState, useEffect } from "./ui.js";
import { api, sessionPath } from "./api.js";

const MAX_ENDED = 200;
const REDRAW_MS = 150;
const RECONNECT_MS = 5000;
const CLOSE_DELAY_MS = 2000;

/** @type {{running: Map<string, any>, ended: any[], missed: number, connected: boolean, opened: number}} */
const state = { running: new Map(), ended: [], missed: 0, connected: false, opened: 0 };
/** @type {Set<() => void>} */
const listeners = new Set();
/** @type {EventSource | null} */
let source = null;
let notifying = false;

function notify() {
  // Many calls may end at once; the page is drawn once for all of them.
  if (notifying) return;
  notifying = true;
  setTimeout(() => {
    notifying = false;
    for (const listener of listeners) listener();
  }, REDRAW_MS);
}

function open() {
  const opened = new EventSource(sessionPath("/api/events"));
  source = opened;
  opened.onopen = () => {
    state.running.clear();
    state.connected = true;
    state.opened++;
    notify();
  };
  opened.onerror = () => {
    state.connected = false;
    notify();
    // A browser reconnects by itself after a break, but not after a refusal.
    if (opened.readyState !== EventSource.CLOSED) return;
    // A gateway that has restarted has forgotten who is signed in, and nobody else on this page may ask it anything.
    api("GET", "/api/session").catch((e) => e.status === 401 && dispatchEvent(new Event("signedout")));
    setTimeout(() => {
      if (isWanted() && source?.readyState === EventSource.CLOSED) open();
    }, RECONNECT_MS);
  };
  opened.addEventListener("began", (e) => {
    const call = JSON.parse(e.data);
    state.running.set(call.id, call);
    notify();
  });
  opened.addEventListener("ended", (e) => {
    const call = JSON.parse(e.data);
    state.running.delete(call.id);
    state.ended.unshift(call);
    state.ended.length = Math.min(state.ended.length, MAX_ENDED);
    notify();
  });
  opened.addEventListener("missed", (e) => {
    state.missed += JSON.parse(e.data).calls;
    notify();
  });
}

/** Whether the stream is on screen. Hidden tabs close it: a browser keeps six connections to a host, for all of its tabs. */
const isWanted = () => listeners.size > 0 && !document.hidden;

function openOrClose() {
  if (isWanted()) {
    if (!source || source.readyState === EventSource.CLOSED) open();
    return;
  }
  // A change of page unsubscribes and subscribes at once; only a lasting absence closes the stream.
  setTimeout(() => {
    if (!listeners.size) closeLive();
    else if (!isWanted()) pause();
  }, CLOSE_DELAY_MS);
}

function pause() {
  source?.close();
  source = null;
  state.connected = false;
}

export function closeLive() {
  pause();
  Object.assign(state, { running: new Map(), ended: [], missed: 0 });
}

document.addEventListener("visibilitychange", openOrClose);

/**
 * The live calls: `{running: Map, ended: newest first, missed, connected, opened}`. The first component that uses them
 * opens the stream, the last closes it. `opened` counts how often it was opened: what happened in between is not in `ended`.
 */
export function useLive(on = true) {
  const [, redraw] = useState(0);
  useEffect(() => {
    if (!on) return undefined;
    const listener = () => redraw((n) => n + 1);
    listeners.add(listener);
    openOrClose();
    return () => {
      listeners.delete(listener);
      openOrClose();
    };
  }, [on]);
  return state;
}

/** Redraw every second, for running clocks. */
export function useTick(on = true, every = 1000) {
  const [, redraw] = useState(0);
  useEffect(() => {
    if (!on) return undefined;
    const timer = setInterval(() => document.hidden || redraw((n) => n + 1), every);
    return () => clearInterval(timer);
  }, [on, every]);
}
