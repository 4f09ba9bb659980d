// Sign in with a token or a virtual key.
import { html, useState, useEffect, useRef } from "../lib/ui.js";
import { get, signIn, useAction } from "../lib/api.js";
import { Problem } from "../lib/components.js";

/**
 * The form to sign in. With `isOver` it is a dialog in front of any that are open: those behind it take no keys.
 */
export function SignIn({ isOver, onSignIn }) {
  const [token, setToken] = useState("");
  const [company, setCompany] = useState("");
  const input = useRef(),
    dialog = useRef();
  const action = useAction(() => signIn(token.trim()));
  useEffect(() => {
    document.title = "Sign in · sluicegate";
    dialog.current?.showModal();
    input.current?.focus();
    get("/api/session/is-auth-enabled").then(
      (state) => setCompany(state.sign_in_url ?? ""),
      () => {},
    );
  }, []);
  const submit = async (e) => {
    e.preventDefault();
    const user = await action.run();
    if (user) onSignIn(user);
  };
  const form = html`<main class="signin">
    <form onSubmit=${submit}>
      <h1><img src="static/icon.svg" alt="" width="28" height="28" />sluicegate</h1>
      ${company && !isOver && html`<a class="button company" href=${company}>Sign in with your company's account</a><p class="hint">Or with a token or key:</p>`}
      <label for="token">Admin token, operator token or virtual key</label>
      <input id="token" ref=${input} type="password" autocomplete="current-password" spellcheck=${false} required value=${token} onInput=${(e) => setToken(e.target.value)} />
      <${Problem} error=${action.error} />
      <button class="primary" disabled=${action.busy || !token.trim()}>${action.busy ? "Signing in …" : "Sign in"}</button>
      <p class="hint">The admin token is printed by <code>sluicegate admin token</code> on the gateway's machine. With a virtual key you see your own usage and calls.</p>
    </form>
  </main>`;
  if (!isOver) return form;
  return html`<dialog class="over" ref=${dialog} aria-label="Sign in" onCancel=${(e) => e.preventDefault()} onKeyDown=${(e) => e.key === "Escape" && e.preventDefault()}>
    <p class="notice warn" role="note">The session has ended. What you typed is kept: sign in again to go on with it.</p>${form}</dialog>`;
}
