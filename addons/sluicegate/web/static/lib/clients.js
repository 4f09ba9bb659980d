// The lines a developer needs, per client and platform. The gateway's address is the one this page was fetched from.

export const CLIENTS = [
  ["claude", "Claude Code"],
  ["codex", "Codex"],
  ["gemini", "Gemini CLI"],
  ["curl", "curl"],
];
export const PLATFORMS = [
  ["unix", "macOS, Linux"],
  ["windows", "Windows"],
];
export const MODES = [
  ["base", "Base URL"],
  ["proxy", "Proxy"],
];

const quoted = (text, platform) =>
  platform === "windows"
    ? `'${text.replaceAll("'", "''")}'`
    : /^[\w@%+=:,./-]+$/.test(text)
      ? text
      : `'${text.replaceAll("'", "'\\''")}'`;

function exports(values, platform) {
  const one =
    platform === "windows" ? ([n, v]) => `$env:${n} = ${quoted(v, platform)}` : ([n, v]) => `export ${n}=${quoted(v, platform)}`;
  return Object.entries(values).map(one);
}

const KEY_NAME = { claude: "ANTHROPIC_API_KEY", codex: "CODEX_API_KEY", gemini: "GEMINI_API_KEY" };
const COMMAND = { claude: 'claude -p "say hi"', codex: 'codex exec "say hi"', gemini: 'gemini -p "say hi"' };

/** Lines to paste into a terminal. `model` is one the key may use. */
export function lines({ client, platform, mode, value, origin = location.origin, model = "claude-haiku-5-5" }) {
  const windows = platform === "windows";
  const ca = windows ? "$HOME\\.sluicegate-ca.pem" : "$HOME/.sluicegate-ca.pem";
  if (client === "curl") {
    const body = JSON.stringify({ model, max_tokens: 64, messages: [{ role: "user", content: "say hi" }] });
    return windows
      ? [
          `curl.exe ${origin}/v1/messages -H ${quoted("x-api-key: " + value, platform)} -H "content-type: application/json" -H "anthropic-version: 2023-06-01" -d '${body.replaceAll('"', '\\"')}'`,
        ]
      : [
          `curl ${origin}/v1/messages -H ${quoted("x-api-key: " + value, platform)} -H 'content-type: application/json' \\`,
          `  -H 'anthropic-version: 2023-06-01' -d '${body}'`,
        ];
  }
  if (client === "claude" && mode === "base")
    return [...exports({ ANTHROPIC_BASE_URL: origin, ANTHROPIC_API_KEY: value }, platform), COMMAND.claude];
  const fetchCa = windows ? `Invoke-WebRequest ${origin}/ca.pem -OutFile "${ca}"` : `curl -sf ${origin}/ca.pem -o "${ca}"`;
  const trust = client === "codex" ? "CODEX_CA_CERTIFICATE" : "NODE_EXTRA_CA_CERTS";
  return [
    fetchCa,
    ...exports({ HTTPS_PROXY: origin }, platform),
    windows ? `$env:${trust} = "${ca}"` : `export ${trust}="${ca}"`,
    ...(client === "gemini" ? exports({ NODE_USE_ENV_PROXY: "1" }, platform) : []),
    ...exports({ [KEY_NAME[client]]: value }, platform),
    COMMAND[client],
  ];
}
