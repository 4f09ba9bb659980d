// The shell: who is signed in, where we are, and the page for it.
import { html, render, useState, useEffect, useRef } from "./lib/ui.js";
import { PLACE, api, signOut, useGet } from "./lib/api.js";
import { closeLive } from "./lib/live.js";
import { here, useRoute, link } from "./lib/route.js";
import { Guard, Loading, Page, Problem } from "./lib/parts.js";
import { Icon } from "./lib/icons.js";
import { SignIn } from "./views/signin.js";

// Each page is fetched when it is first looked at.
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
  policy: () => import("./views/policy.js"),
  health: () => import("./views/health.js"),
  mine: () => import("./views/mine.js"),
};

const STAFF = [
  [
    null,
    [
      ["overview", "Overview"],
      ["budgets", "Budgets"],
      ["calls", "Calls"],
    ],
  ],
  [
    "Who",
    [
      ["keys", "Keys"],
      ["users", "Users"],
      ["teams", "Teams"],
      ["projects", "Projects"],
      ["customers", "Customers"],
    ],
  ],
  [
    "What",
    [
      ["models", "Models"],
      ["providers", "Providers"],
    ],
  ],
  [
    "Gateway",
    [
      ["policy", "Policy"],
      ["health", "Health"],
    ],
  ],
];
const DEVELOPER = [
  [
    null,
    [
      ["mine", "My usage"],
      ["calls", "My calls"],
    ],
  ],
];

function Shell({ who, onSignOut }) {
  const route = useRoute();
  const menu = who.role === "developer" ? DEVELOPER : STAFF;
  const known = menu.flatMap(([, items]) => items.map(([name]) => name));
  const first = route.parts[0] ?? known[0];
  const name = known.includes(first) ? first : null;
  const [open, setOpen] = useState(false);
  const main = useRef();
  useEffect(() => {
    setOpen(false);
    // The keyboard goes on where the page begins, not where the last one was left.
    if (document.activeElement && document.activeElement !== document.body && !main.current?.contains(document.activeElement))
      main.current?.focus();
    scrollTo(0, 0);
  }, [name, route.parts[1]]);
  return html`<div class="shell">
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
          ${items.map(([item, word]) => html`<li key=${item}><a href=${link([item])} aria-current=${item === name ? "page" : null}>
            <${Icon} name=${item} />${word}</a></li>`)}
        </ul></div>`,
        )}
        <span class="grow" />
        <${Foot} who=${who} onSignOut=${onSignOut} />
      </div>
    </nav>
    <main id="main" tabindex="-1" ref=${main}>
      <${Guard} at=${location.hash}>${
        name
          ? html`<${View} key=${name} name=${name} route=${route} who=${who} />`
          : html`<${Page} title="Not here">
            <p>There is no page at this address. <a href=${link([])}>Go to the beginning</a>.</p></${Page}>`
      }</${Guard}>
    </main>
  </div>`;
}

const loaded = {};

function View({ name, route, who }) {
  const [, redraw] = useState(0);
  const [error, fail] = useState(null);
  useEffect(() => {
    if (!loaded[name])
      VIEWS[name]().then((m) => {
        loaded[name] = m.default;
        redraw((n) => n + 1);
      }, fail);
  }, [name]);
  if (error)
    return html`<${Problem} error=${{ message: "This page's script could not be loaded" }} retry=${() => location.reload()} />`;
  return loaded[name]
    ? html`<${loaded[name]} name=${name} parts=${route.parts.slice(1)} query=${route.query} who=${who} />`
    : html`<${Loading} />`;
}

function Foot({ who, onSignOut }) {
  const [theme, set] = useState(window.sluicegateTheme.chosen());
  const health = useGet("/health", { every: 10_000 });
  const status = health.error ? "unreachable" : health.data?.status;
  const choose = (t) => {
    window.sluicegateTheme.choose(t);
    set(t);
  };
  return html`<div class="nav-foot">
    ${
      status &&
      html`<a class=${"status " + (status === "ok" ? "good" : "bad")} href=${who.role === "developer" ? "#/" : link(["health"])}>
      <i />${status === "ok" ? "All is well" : status === "degraded" ? "Degraded" : "Unreachable"}</a>`
    }
    <div class="choice small theme" role="group" aria-label="Theme">
      ${[
        ["light", "Light"],
        ["dark", "Dark"],
        ["system", "Auto"],
      ].map(
        ([t, word]) => html`<button type="button" aria-pressed=${String(t === theme)} onClick=${() => choose(t)}>${word}</button>`,
      )}
    </div>
    <div class="me"><span><b>${who.name}</b><br /><span class="faint">${who.role}</span></span>
      <button class="quiet small" onClick=${onSignOut}>Sign out</button></div>
  </div>`;
}

function App() {
  const [who, set] = useState(undefined);
  const [error, fail] = useState(null);
  const last = useRef(null);
  if (who) last.current = who.name;
  // Whoever is not the one before begins anew, so that nothing is left that another person has looked at or typed.
  const enter = (is) => {
    if (last.current && last.current !== is.name) location.reload();
    else set(is);
  };
  const look = () =>
    api("GET", "/api/session").then(
      (a) => {
        fail(null);
        enter(a.data);
      },
      (e) => (e.status === 401 ? set(null) : fail(e)),
    );
  useEffect(() => {
    look();
    const out = () => set(null);
    // Another tab has signed in or out.
    const elsewhere = (e) => e.key === PLACE && look();
    addEventListener("signedout", out);
    addEventListener("storage", elsewhere);
    return () => {
      removeEventListener("signedout", out);
      removeEventListener("storage", elsewhere);
    };
  }, []);
  const leave = async () => {
    closeLive();
    await signOut();
    location.reload();
  };
  if (error) return html`<div class="alone"><${Problem} error=${error} retry=${look} /></div>`;
  if (who === undefined) return html`<div class="shell"><div class="nav" /><main><${Loading} lines=${2} /></main></div>`;
  if (who === null)
    return html`<${SignIn} onSignIn=${enter} />`;
  return html`<${Shell} who=${who} onSignOut=${leave} />`;
}

// The page's script is fetched while it is still being asked who is signed in.
const first = here().parts[0] ?? "overview";
if (Object.hasOwn(VIEWS, first)) VIEWS[first]();
const place = document.getElementById("app");
place.textContent = "";
render(html`<${App} />`, place);
