// The few names every view is written with: htm's tag bound to preact, and preact's hooks.
import { h, render, Fragment } from "../vendor/preact.js";
import { useState, useEffect, useLayoutEffect, useMemo, useRef, useCallback, useErrorBoundary, useId } from "../vendor/hooks.js";
import htm from "../vendor/htm.js";

// htm caches what it parsed by the literal, so a view's markup is parsed once. Text always becomes a text node.
export const html = htm.bind(h);
export { h, render, Fragment, useState, useEffect, useLayoutEffect, useMemo, useRef, useCallback, useErrorBoundary, useId };
