// The shell: who is signed in, the navigation, and the page for the current address.
import { html, render, useState, useEffect, useRef } from "./lib/ui.js";
import { SESSION_PATH_KEY, api, signOut, useGet } from "./lib/api.js";
import { closeLive } from "./lib/live_calls.js";
import { currentRoute, useRoute, link } from "./lib/router.js";
import { ErrorBoundary, Loading, Page, Problem } from "./lib/components.js";
import { forgetUnsaved, isPageUnsaved, mayLeaveDocument } from "./lib/unsaved.js";
import { problemOfTimes } from "./lib/time_ranges.js";
import { Icon } from "./lib/icons.js";
import { SignIn } from "./views/sign_in.js";

// Each page's script is fetched when the page is first opened.
const VIEWS = {
  overview: () => import("./views/overview.js"),
  budgets: () => import("./views/budgets.js"),
  calls: () => import("./views/calls.js"),
  keys: () => import("./views/entities.js"),
  teams: () => import("./views/entities.js"),
  users: () => import("./views/entities.js"),
  customers: () => import("./views/entities.js"),
  projects: () => import("./views/entities.js"),
  models: () => import("./views/entities.js"),
  providers: () => import("./views/providers.js"),
  routes: () => import("./views/routes.js"),
  features: () => import("./views/features.js"),
  policy: () => import("./views/policy.js"),
  health: () => import("./views/health.js"),
  usage: () => import("./views/my_usage.js"),
};

/** @type {[string | null, string[][]][]} groups of page names and their titles */
const STAFF_MENU = [
  [
    null,
    [
      ["overview", "Overview"],
      ["budgets", "Budgets"],
      ["calls", "Calls"],
    ],
  ],
  [
    "Organization",
    [
      ["keys", "Virtual keys"],
      ["users", "Users"],
      ["teams", "Teams"],
      ["projects", "Projects"],
      ["customers", "Customers"],
    ],
  ],
  [
    "Upstream",
    [
      ["models", "Models"],
      ["providers", "Providers"],
      ["routes", "Routes"],
    ],
  ],
  [
    "Gateway",
    [
      ["features", "Features"],
      ["policy", "Policy"],
      ["health", "Health"],
    ],
  ],
];
/** @type {[string | null, string[][]][]} */
const DEVELOPER_MENU = [
  [
    null,
    [
      ["usage", "My usage"],
      ["calls", "My calls"],
    ],
  ],
];

function Shell({ user, hidden, onSignOut }) {
  const route = useRoute();
  const menu = user.role === "developer" ? DEVELOPER_MENU : STAFF_MENU;
  const pages = menu.flatMap(([, items]) => items.map(([page]) => page));
  const requested = route.parts[0] ?? pages[0];
  const name = pages.includes(requested) ? requested : null;
  const [open, setOpen] = useState(false);
  const main = useRef();
  useEffect(() => {
    setOpen(false);
    // Keyboard focus moves to the start of the new page instead of staying in the old one's place.
    if (document.activeElement && document.activeElement !== document.body && !main.current?.contains(document.activeElement))
      main.current?.focus();
    scrollTo(0, 0);
  }, [name, route.parts[1]]);
  return html`<div class="shell" hidden=${hidden}>
    <a class="skip" href="#main" onClick=${(e) => {
      e.preventDefault();
      main.current.focus();
    }}>Skip to content</a>
    <nav class=${"nav" + (open ? " open" : "")} aria-label="Main">
      <div class="brand"><a href=${link([])}><img src="static/icon.svg" alt="" width="22" height="22" />sluicegate</a>
        <button class="quiet icon menu" aria-expanded=${String(open)} aria-label="Menu" onClick=${() => setOpen(!open)}>☰</button>
          </div>
      <div class="nav-body">
        ${menu.map(
          ([title, items]) => html`<div class="nav-group" key=${title}>${title && html`<h2>${title}</h2>`}<ul>
          ${items.map(([item, title]) => html`<li key=${item}><a href=${link([item])} aria-current=${item === name ? "page" : null}>
            <${Icon} name=${item} />${title}</a></li>`)}
        </ul></div>`,
        )}
        <span class="grow" />
        <${Footer} user=${user} onSignOut=${onSignOut} />
      </div>
    </nav>
    <main id="main" tabindex="-1" ref=${main}>
      ${user.read_only && html`<div class="notice warn" role="note"><b>Read-only:</b> ${user.read_only}</div>`}
      <${ErrorBoundary} at=${location.hash}>${
        name
          ? html`<${View} key=${name} name=${name} route=${route} user=${user} />`
          : html`<${Page} title="Page not found">
            <p>There is no page at this address. <a href=${link([])}>Go to the start page</a>.</p></${Page}>`
      }</${ErrorBoundary}>
    </main>
  </div>`;
}

/** The pages' components whose scripts have been fetched. */
const loaded = {};
/** @type {Record<string, string[]>} the query parameters that each of them knows */
const parameters = {};

/** What in an address makes no sense to its page, in words: what is ignored would show what nobody asked for. */
function problemOf(name, query) {
  const unknown = [...query.keys()].find((p) => !parameters[name].includes(p));
  if (unknown !== undefined)
    return `“${unknown}” is not a parameter of this page; ${parameters[name].length ? `known are ${parameters[name].join(", ")}` : "it has none"}`;
  return parameters[name].includes("range") ? problemOfTimes(query) : null;
}

function View({ name, route, user }) {
  const [, redraw] = useState(0);
  const [error, setError] = useState(null);
  useEffect(() => {
    if (!loaded[name])
      VIEWS[name]().then((m) => {
        loaded[name] = m.default;
        parameters[name] = m.PARAMETERS ?? [];
        redraw((n) => n + 1);
      }, setError);
  }, [name]);
  if (error)
    return html`<${Problem} error=${{ message: "This page's script could not be loaded" }} retry=${() => location.reload()} />`;
  const problem = loaded[name] && problemOf(name, route.query);
  if (problem)
    return html`<${Page} title="The address is not understood"><${Problem} error=${{ message: problem }} />
      <p><a href=${link(route.parts)}>Open the page without it</a></p></${Page}>`;
  return loaded[name]
    ? html`<${loaded[name]} name=${name} parts=${route.parts.slice(1)} query=${route.query} user=${user} />`
    : html`<${Loading} />`;
}

/** Whether calls to a provider can be sent now: it needs no key, or has one that is not paused after errors. */
const isReady = (p) =>
  p.provider_status === "active" && (p.simulate || !p.keys.length || p.keys.some((k) => k.usable && !k.set_aside_until));

/** The gateway's state in a few words, whether it is good, and the page that says more. Only staff are told of providers. */
function statusOf({ error, data }, providers) {
  const tell = (text, { good = false, page = "health" } = {}) => ({ text, good, page });
  if (error) return tell("Unreachable");
  if (data && data.status !== "ok") return tell("Degraded");
  if (providers.length && !providers.some(isReady)) return tell("No usable provider key", { page: "providers" });
  const without = providers.filter((p) => p.keys.length && !isReady(p)).map((p) => p.name);
  if (without.length) return tell(`No usable key: ${without.join(", ")}`, { page: "providers" });
  return tell(data && "Healthy", { good: true });
}

function Footer({ user, onSignOut }) {
  const [theme, setTheme] = useState(window.sluicegateTheme.chosen());
  const health = useGet("/health", { every: 10_000 });
  const providers = useGet(user.role === "developer" ? null : "/api/providers", { every: 10_000 });
  const { good, text, page } = statusOf(health, providers.data?.providers ?? []);
  const choose = (t) => {
    window.sluicegateTheme.choose(t);
    setTheme(t);
  };
  return html`<div class="nav-foot">
    ${
      text &&
      html`<a class=${"status " + (good ? "good" : "bad")} href=${user.role === "developer" ? "#/" : link([page])}>
      <i />${text}</a>`
    }
    <div class="choice small theme" role="group" aria-label="Theme">
      ${[
        ["light", "Light"],
        ["dark", "Dark"],
        ["system", "Auto"],
      ].map(
        ([t, title]) => html`<button type="button" aria-pressed=${String(t === theme)} onClick=${() => choose(t)}>${title}</button>`,
      )}
    </div>
    <div class="me"><span><b>${user.name}</b><br /><span class="faint">${user.role}</span></span>
      <button class="quiet small" onClick=${onSignOut}>Sign out</button></div>
  </div>`;
}

function App() {
  // Undefined until the gateway has said who it is, null for nobody.
  const [user, setUser] = useState(/** @type {any} */ (undefined));
  const [error, setError] = useState(null);
  const lastUser = useRef(/** @type {any} */ (null));
  if (user) lastUser.current = user;
  // Another person gets a fresh page, so that nothing is left of what the previous one has seen or typed.
  const enter = (newUser) => {
    if (lastUser.current && lastUser.current.name !== newUser.name) {
      forgetUnsaved();
      location.reload();
    } else setUser({ ...newUser, canEdit: newUser.role === "admin" && !newUser.read_only });
  };
  const readSession = () =>
    api("GET", "/api/session").then(
      ({ data }) => {
        setError(null);
        enter(data);
      },
      (e) => (e.status === 401 ? setUser(null) : setError(e)),
    );
  useEffect(() => {
    readSession();
    const onSignedOut = () => setUser(null);
    // Another tab has signed in or out.
    const onStorage = (e) => e.key === SESSION_PATH_KEY && readSession();
    addEventListener("signedout", onSignedOut);
    addEventListener("storage", onStorage);
    return () => {
      removeEventListener("signedout", onSignedOut);
      removeEventListener("storage", onStorage);
    };
  }, []);
  const leave = async () => {
    if (!mayLeaveDocument()) return;
    closeLive();
    await signOut();
    location.reload();
  };
  if (error) return html`<div class="centered"><${Problem} error=${error} retry=${readSession} /></div>`;
  if (user === undefined) return html`<div class="shell"><div class="nav" /><main><${Loading} lines=${2} /></main></div>`;
  // A session that ended while something was typed: that stays behind the form until the same person has signed in again.
  const shownUser = user ?? (isPageUnsaved() ? lastUser.current : null);
  return html`${shownUser && html`<${Shell} key="shell" user=${shownUser} hidden=${!user} onSignOut=${leave} />`}
    ${!user && html`<${SignIn} key="sign-in" isOver=${Boolean(shownUser)} onSignIn=${enter} />`}`;
}

// Fetch the page's script while the gateway is still being asked who is signed in.
const firstPage = currentRoute().parts[0] ?? "overview";
if (Object.hasOwn(VIEWS, firstPage)) VIEWS[firstPage]();
const root = /** @type {HTMLElement} */ (document.getElementById("app"));
root.textContent = "";
render(html`<${App} />`, root);
