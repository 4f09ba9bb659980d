// The address bar: `#/calls/ID?outcome=denied`. A view reads it and writes it, so that every state has a link and Back works.
import { useState, useEffect } from "./ui.js";

export function here() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  let parts;
  try {
    parts = path.split("/").filter(Boolean).map(decodeURIComponent);
  } catch {
    // What nobody can decode is no page's name either.
    parts = [path];
  }
  return { parts, query: new URLSearchParams(query) };
}

/** The link to a page; parts are encoded, empty parameters left out. */
export function link(parts, query = {}) {
  const made = new URLSearchParams();
  const entries = query instanceof URLSearchParams ? [...query] : Object.entries(query);
  for (const [name, value] of entries) if (value !== null && value !== undefined && value !== "") made.set(name, value);
  const text = made.toString();
  return `#/${parts.map(encodeURIComponent).join("/")}${text ? "?" + text : ""}`;
}

/** Go there; with `replace` the place we are at is not one to come back to. */
export function go(parts, query = {}, { replace = false } = {}) {
  const to = link(parts, query);
  if (to === location.hash) return;
  if (replace) {
    history.replaceState(null, "", to);
    dispatchEvent(new HashChangeEvent("hashchange"));
  } else {
    location.hash = to;
  }
}

export function useRoute() {
  const [route, set] = useState(here);
  useEffect(() => {
    const changed = () => set(here());
    addEventListener("hashchange", changed);
    return () => removeEventListener("hashchange", changed);
  }, []);
  return route;
}
