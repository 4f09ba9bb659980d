// The same JSON API that everyone else uses, with the session's cookie.
import { useState, useEffect, useRef, useCallback } from "./ui.js";

/** The key in localStorage of this browser's session path, shared by all of its tabs. */
export const SESSION_PATH_KEY = "sluicegate-session-path";

/** A path as this browser requests it: its cookie belongs to a path that only pages of this origin know. */
export const sessionPath = (path) => (path.startsWith("/api/") ? (localStorage.getItem(SESSION_PATH_KEY) ?? "") + path : path);

/** Sign in with a token or virtual key, and return who it is. */
export async function signIn(token) {
  const { place, ...user } = (await api("POST", "/api/session/login", { token })).data;
  localStorage.setItem(SESSION_PATH_KEY, place);
  return user;
}

export async function signOut() {
  await api("POST", "/api/session/logout").catch(() => {});
  localStorage.removeItem(SESSION_PATH_KEY);
}

export class ApiError extends Error {
  /**
   * @param {number} status of the response; 0 where the gateway cannot be reached
   * @param {{type?: string, message?: string, field?: string, problems?: any[]}} [body] the response's `error`
   */
  constructor(status, body) {
    super(body?.message || `The gateway answered with status ${status}`);
    this.status = status;
    this.type = body?.type;
    this.field = body?.field;
    this.problems = body?.problems || [];
  }
}

/**
 * Send one request. Throws ApiError, also where the gateway cannot be reached.
 *
 * @param {string} method
 * @param {string} path
 * @param {any} [body] sent as JSON
 * @param {Record<string, string>} [headers]
 * @returns {Promise<{data: any, etag: string | null}>} the parsed response and its ETag
 */
export async function api(method, path, body, headers = {}) {
  /** @type {RequestInit & {headers: Record<string, string>}} */
  const options = { method, headers: { accept: "application/json", ...headers }, credentials: "same-origin" };
  if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers["content-type"] = "application/json";
  } else if (method !== "GET" && method !== "DELETE") {
    options.headers["content-type"] = "application/json";
  }
  let response, text;
  try {
    response = await fetch(sessionPath(path), options);
    text = await response.text();
  } catch {
    throw new ApiError(0, { type: "unreachable", message: "The gateway cannot be reached" });
  }
  /** @type {any} */
  let data;
  try {
    data = text ? JSON.parse(text) : {};
  } catch {
    data = { text };
  }
  if (!response.ok) {
    if (response.status === 401 && !path.startsWith("/api/session")) dispatchEvent(new Event("signedout"));
    throw new ApiError(response.status, data?.error);
  }
  return { data, etag: response.headers.get("etag") };
}

/** The headers of a request that may create something but never change what exists. */
export const CREATE_ONLY = { "if-none-match": "*" };

export const get = async (path) => (await api("GET", path)).data;

/** A path with its query; null, undefined and empty values are left out. */
export function url(path, query = {}) {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query))
    if (value !== null && value !== undefined && value !== "") parameters.set(name, value);
  const text = parameters.toString();
  return text ? `${path}?${text}` : path;
}

/** The latest responses by path. */
const cache = new Map();
const CACHE_SIZE = 200;

/** A request is repeated no sooner than after this many times as long as it took. */
const MIN_PAUSE_FACTOR = 10;

const BUSY_RETRY_MS = 2000;

/**
 * Fetch a path and keep it up to date: `{data, error, loading, reload}`.
 *
 * The cached response is shown at once while a new one is fetched, so that going back does not flicker; with `uncached`
 * nothing is shown but what is fetched from now on. `every` repeats the request after this many milliseconds while the page
 * is visible, less often the longer a response takes. `keep` shows the previous path's response until this one's arrives.
 *
 * @param {string | null} path null fetches nothing
 * @param {{every?: number, keep?: boolean, uncached?: boolean}} [options]
 * @returns {{data: any, error: any, loading: boolean, reload: () => Promise<void>}}
 */
export function useGet(path, { every = 0, keep = false, uncached = false } = {}) {
  const [, redraw] = useState(0);
  const state = useRef(/** @type {{path: string | null, error: any, data: any, requests: number}} */ ({ path: null, requests: 0 }));
  const shown = state.current;
  if (shown.path !== path) {
    const cached = uncached ? undefined : cache.get(path);
    Object.assign(shown, { path, error: null, data: cached ?? (keep ? shown.data : undefined) });
  }
  const reload = useCallback(async () => {
    const latest = state.current,
      number = ++latest.requests,
      requested = latest.path;
    if (!requested) return;
    // A newer request, or another path, makes this one's response worthless.
    const isCurrent = () => number === latest.requests && requested === latest.path;
    try {
      const data = await get(requested);
      cache.set(requested, data);
      if (cache.size > CACHE_SIZE) cache.delete(cache.keys().next().value);
      if (isCurrent()) Object.assign(latest, { data, error: null });
    } catch (error) {
      if (isCurrent()) {
        latest.error = error;
        // The gateway is busy with something that ends by itself, and the response says with what.
        if (error.status === 503) setTimeout(() => isCurrent() && reload(), BUSY_RETRY_MS);
      }
    }
    redraw((n) => n + 1);
  }, []);
  useEffect(() => {
    let timer,
      stopped = false;
    // Repeated only after a response: a gateway that is slow, or gone, must not get ever more requests at a time.
    const repeat = (took) => {
      if (!every || stopped) return;
      timer = setTimeout(
        async () => {
          const sentAt = Date.now();
          if (!document.hidden) await reload();
          repeat(Date.now() - sentAt);
        },
        Math.max(every, took * MIN_PAUSE_FACTOR),
      );
    };
    const sentAt = Date.now();
    reload().then(() => repeat(Date.now() - sentAt));
    return () => {
      stopped = true;
      clearTimeout(timer);
      state.current.requests++;
    };
  }, [path, every]);
  return { data: shown.data, error: shown.error, loading: path !== null && shown.data === undefined && !shown.error, reload };
}

/**
 * Run something on demand: `{run, busy, error, clear}`. `run` returns undefined if it failed; `error` then says why.
 *
 * @param {(...given: any[]) => any} work
 */
export function useAction(work) {
  const [state, setState] = useState({ busy: false, error: /** @type {any} */ (null) });
  const run = async (...given) => {
    setState({ busy: true, error: null });
    try {
      const result = await work(...given);
      setState({ busy: false, error: null });
      return result ?? true;
    } catch (error) {
      setState({ busy: false, error });
      return undefined;
    }
  };
  return { run, ...state, clear: () => setState({ busy: false, error: null }) };
}
