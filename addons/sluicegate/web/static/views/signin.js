import { html, useState, useEffect, useRef } from "../lib/ui.js";
import { signIn, useDo } from "../lib/api.js";
import { Problem } from "../lib/parts.js";

export function SignIn({ onSignIn }) {
  const [token, set] = useState("");
  const box = useRef();
  const doing = useDo(() => signIn(token.trim()));
  useEffect(() => {
    document.title = "Sign in · sluicegate";
    box.current?.focus();
  }, []);
  const submit = async (e) => {
    e.preventDefault();
    const who = await doing.run();
    if (who) onSignIn(who);
  };
  return html`<main class="signin">
    <form onSubmit=${submit}>
      <h1><img src="static/icon.svg" alt="" width="28" height="28" />sluicegate</h1>
      <label for="token">Admin token, operator token or virtual key</label>
      <input id="token" ref=${box} type="password" autocomplete="current-password" spellcheck=${false} required value=${token} onInput=${(e) => set(e.target.value)} />
      <${Problem} error=${doing.error} />
      <button class="primary" disabled=${doing.busy || !token.trim()}>${doing.busy ? "Signing in …" : "Sign in"}</button>
      <p class="hint">The admin token is printed by <code>sluicegate admin token</code> on the gateway's machine. With a virtual key you see your own usage and calls.</p>
    </form>
  </main>`;
}
