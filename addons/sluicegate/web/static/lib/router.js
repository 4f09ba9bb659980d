// The address bar: `#/calls/ID?outcome=denied`. Views read and write it, so that every state has a link and Back works.
import { useState, useEffect } from "./ui.js";
import { mayLeavePage } from "./unsaved.js";

/** The number of the history's entry that is shown: each entry has its own, so that one knows which way a step went. */
let place = history.state?.place ?? 0;
history.replaceState({ place }, "");
let shownHash = location.hash,
  isReturning = false;

// Registered before any page listens. An address that has changed already is taken back where one stays.
addEventListener("hashchange", (e) => {
  if (isReturning) {
    isReturning = false;
    e.stopImmediatePropagation();
    return;
  }
  const arrived = history.state?.place ?? place + 1;
  if (location.hash !== shownHash && !mayLeavePage()) {
    e.stopImmediatePropagation();
    isReturning = arrived !== place;
    if (isReturning) history.go(place - arrived);
    return;
  }
  place = arrived;
  shownHash = location.hash;
  if (!history.state) history.replaceState({ place }, "");
});

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
    if (!mayLeavePage()) return;
    history.replaceState(history.state, "", target);
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
