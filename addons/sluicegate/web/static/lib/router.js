// The address bar: `#/calls/ID?outcome=denied`. Views read and write it, so that every state has a link and Back works.
import { useState, useEffect } from "./ui.js";

/** The current address, as its decoded path segments and its query. */
export function currentRoute() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  let parts;
  try {
    parts = path.split("/").filter(Boolean).map(decodeURIComponent);
  } catch {
    // A path that cannot be decoded is not the name of a page either.
    parts = [path];
  }
  return { parts, query: new URLSearchParams(query) };
}

/** The link to a page; parts are encoded, empty parameters left out. */
export function link(parts, query = {}) {
  const parameters = new URLSearchParams();
  const entries = query instanceof URLSearchParams ? [...query] : Object.entries(query);
  for (const [name, value] of entries) if (value !== null && value !== undefined && value !== "") parameters.set(name, value);
  const text = parameters.toString();
  return `#/${parts.map(encodeURIComponent).join("/")}${text ? "?" + text : ""}`;
}

/** Go to a page; with `replace`, Back skips the page we are on. */
export function go(parts, query = {}, { replace = false } = {}) {
  const target = link(parts, query);
  if (target === location.hash) return;
  if (replace) {
    history.replaceState(null, "", target);
    dispatchEvent(new HashChangeEvent("hashchange"));
  } else {
    location.hash = target;
  }
}

export function useRoute() {
  const [route, setRoute] = useState(currentRoute);
  useEffect(() => {
    const onChange = () => setRoute(currentRoute());
    addEventListener("hashchange", onChange);
    return () => removeEventListener("hashchange", onChange);
  }, []);
  return route;
}
