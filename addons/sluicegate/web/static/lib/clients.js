// The lines that set up a client, per platform. The gateway's address is the one this page was fetched from.

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

const quote = (text, platform) =>
  platform === "windows"
    ? `'${text.replaceAll("'", "''")}'`
    : /^[\w@%+=:,./-]+$/.test(text)
      ? text
      : `'${text.replaceAll("'", "'\\''")}'`;

function exportLines(values, platform) {
  const line =
    platform === "windows" ? ([n, v]) => `$env:${n} = ${quote(v, platform)}` : ([n, v]) => `export ${n}=${quote(v, platform)}`;
  return Object.entries(values).map(line);
}

const KEY_VARIABLES = { claude: "ANTHROPIC_API_KEY", codex: "CODEX_API_KEY", gemini: "GEMINI_API_KEY" };
const COMMANDS = { claude: 'claude -p "say hi"', codex: 'codex exec "say hi"', gemini: 'gemini -p "say hi"' };

/** The gateway as a proxy, with the virtual key as its user name. Nobody reads the x, without which some programs send no key. */
function proxyUrl(origin, value) {
  const { protocol, host } = new URL(origin);
  return `${protocol}//${encodeURIComponent(value)}:x@${host}`;
}

/** Lines to paste into a terminal. `model` is one that the key may use. */
export function setupLines({ client, platform, mode, value, origin = location.origin, model = "claude-haiku-5-5" }) {
  const windows = platform === "windows";
  const ca = windows ? "$HOME\\.sluicegate-ca.pem" : "$HOME/.sluicegate-ca.pem";
  if (client === "curl") {
    const body = JSON.stringify({ model, max_tokens: 64, messages: [{ role: "user", content: "say hi" }] });
    return windows
      ? [
          `curl.exe ${origin}/v1/messages -H ${quote("x-api-key: " + value, platform)} -H "content-type: application/json" -H "anthropic-version: 2023-06-01" -d '${body.replaceAll('"', '\\"')}'`,
        ]
      : [
          `curl ${origin}/v1/messages -H ${quote("x-api-key: " + value, platform)} -H 'content-type: application/json' \\`,
          `  -H 'anthropic-version: 2023-06-01' -d '${body}'`,
        ];
  }
  if (client === "claude" && mode === "base")
    return [...exportLines({ ANTHROPIC_BASE_URL: origin, ANTHROPIC_API_KEY: value }, platform), COMMANDS.claude];
  const fetchCa = windows ? `Invoke-WebRequest ${origin}/ca.pem -OutFile "${ca}"` : `curl -sf ${origin}/ca.pem -o "${ca}"`;
  const trust = client === "codex" ? "CODEX_CA_CERTIFICATE" : "NODE_EXTRA_CA_CERTS";
  return [
    fetchCa,
    ...exportLines({ HTTPS_PROXY: proxyUrl(origin, value) }, platform),
    windows ? `$env:${trust} = "${ca}"` : `export ${trust}="${ca}"`,
    ...(client === "gemini" ? exportLines({ NODE_USE_ENV_PROXY: "1" }, platform) : []),
    ...exportLines({ [KEY_VARIABLES[client]]: value }, platform),
    COMMANDS[client],
  ];
}
