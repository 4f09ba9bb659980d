// What every view is written with: htm's tag bound to preact, and preact's hooks.
import { h, render, Fragment } from "../vendor/preact.js";
import { useState, useEffect, useLayoutEffect, useMemo, useRef, useCallback, useErrorBoundary, useId } from "../vendor/hooks.js";
import htm from "../vendor/htm.js";

// htm caches parsed markup by the literal, so a view is parsed once. Text always becomes a text node, never markup.
export const html = htm.bind(h);
export { h, render, Fragment, useState, useEffect, useLayoutEffect, useMemo, useRef, useCallback, useErrorBoundary, useId };
