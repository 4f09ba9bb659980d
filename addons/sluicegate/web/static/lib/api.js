// The same JSON API as everyone else's, with the session's cookie.
import { useState, useEffect, useRef, useCallback } from "./ui.js";

/** Where a browser keeps its place, for all of its tabs. */
export const PLACE = "sluicegate-place";

/** A path as this browser may ask for it: its cookie is for a place that only pages of this origin know. */
export const placed = (path) => (path.startsWith("/api/") ? (localStorage.getItem(PLACE) ?? "") + path : path);

/** Sign in with a token or virtual key; who it is. */
export async function signIn(token) {
  const { place, ...who } = (await api("POST", "/api/session/login", { token })).data;
  localStorage.setItem(PLACE, place);
  return who;
}

export async function signOut() {
  await api("POST", "/api/session/logout").catch(() => {});
  localStorage.removeItem(PLACE);
}

export class ApiError extends Error {
  constructor(status, said) {
    super(said?.message || `The gateway answered ${status}`);
    Object.assign(this, { status, type: said?.type, field: said?.field, problems: said?.problems || [], said });
  }
}

/** One request; the parsed answer with its ETag as `etag`. Throws ApiError, also where the gateway cannot be reached. */
export async function api(method, path, body, headers = {}) {
  const sent = { method, headers: { accept: "application/json", ...headers }, credentials: "same-origin" };
  if (body !== undefined) {
    sent.body = JSON.stringify(body);
    sent.headers["content-type"] = "application/json";
  } else if (method !== "GET" && method !== "DELETE") {
    sent.headers["content-type"] = "application/json";
  }
  let answer, text;
  try {
    answer = await fetch(placed(path), sent);
    text = await answer.text();
  } catch {
    throw new ApiError(0, { type: "unreachable", message: "The gateway cannot be reached" });
  }
  let parsed = null;
  try {
    parsed = text ? JSON.parse(text) : {};
  } catch {
    parsed = { text };
  }
  if (!answer.ok) {
    if (answer.status === 401 && !path.startsWith("/api/session")) dispatchEvent(new Event("signedout"));
    throw new ApiError(answer.status, parsed?.error);
  }
  return { data: parsed, etag: answer.headers.get("etag") };
}

export const get = async (path) => (await api("GET", path)).data;

/** A path with its query; what is null, undefined or empty is left out. */
export function url(path, query = {}) {
  const made = new URLSearchParams();
  for (const [name, value] of Object.entries(query))
    if (value !== null && value !== undefined && value !== "") made.set(name, value);
  const text = made.toString();
  return text ? `${path}?${text}` : path;
}

const last = new Map();

/** An answer is asked for again after at least so many times as long as it took. */
const PATIENCE = 10;

/**
 * What a path answers: `{data, error, loading, reload}`. The last answer is shown at once while a new one is fetched, so
 * that going back does not flicker; with `anew` nothing is shown but what was fetched from now on. `every` asks again after
 * so many milliseconds while the page is visible, and the more seldom the longer an answer takes. `keep` shows the last
 * path's answer until this one's is there.
 */
export function useGet(path, { every = 0, keep = false, anew = false } = {}) {
  const [, redraw] = useState(0);
  const state = useRef({ path: null, error: null, asked: 0 });
  const shown = state.current;
  if (shown.path !== path) {
    const known = anew ? undefined : last.get(path);
    Object.assign(shown, { path, error: null, data: known ?? (keep ? shown.data : undefined) });
  }
  const reload = useCallback(async () => {
    const now = state.current,
      asked = ++now.asked,
      mine = now.path;
    if (!mine) return;
    try {
      const data = await get(mine);
      last.set(mine, data);
      if (last.size > 200) last.delete(last.keys().next().value);
      if (asked === now.asked && mine === now.path) Object.assign(now, { data, error: null });
    } catch (error) {
      if (asked === now.asked && mine === now.path) {
        now.error = error;
        // Busy with something that ends by itself, and the answer says with what.
        if (error.status === 503) setTimeout(() => asked === now.asked && mine === now.path && reload(), 2000);
      }
    }
    redraw((n) => n + 1);
  }, []);
  useEffect(() => {
    let timer = null,
      over = false;
    // Asked again only once it has been answered: a gateway that is slow, or gone, is not asked by ever more at a time.
    const again = (took) => {
      if (!every || over) return;
      timer = setTimeout(
        async () => {
          const began = Date.now();
          if (!document.hidden) await reload();
          again(Date.now() - began);
        },
        Math.max(every, took * PATIENCE),
      );
    };
    const began = Date.now();
    reload().then(() => again(Date.now() - began));
    return () => {
      over = true;
      clearTimeout(timer);
      state.current.asked++;
    };
  }, [path, every]);
  return { data: shown.data, error: shown.error, loading: path !== null && shown.data === undefined && !shown.error, reload };
}

/** Something to do on demand: `{run, busy, error, done}`; `run` returns undefined where it failed, and `error` says why. */
export function useDo(work) {
  const [state, set] = useState({ busy: false, error: null });
  const run = async (...given) => {
    set({ busy: true, error: null });
    try {
      const result = await work(...given);
      set({ busy: false, error: null });
      return result ?? true;
    } catch (error) {
      set({ busy: false, error });
      return undefined;
    }
  };
  return { run, ...state, clear: () => set({ busy: false, error: null }) };
}
