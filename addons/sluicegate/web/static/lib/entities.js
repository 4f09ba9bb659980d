// The kinds of things a policy knows: their places in the API, what they belong to, and what may be sent back of one.
import { ApiError, api } from "./api.js";

export const KINDS = {
  customers: {
    path: "customers",
    list: "customers",
    one: "customer",
    word: "customer",
    words: "Customers",
    filter: "customer",
    belongs: [],
    empty: "A customer is whoever pays in the end: a company, a department. Its budget holds over all its teams.",
  },
  teams: {
    path: "teams",
    list: "teams",
    one: "team",
    word: "team",
    words: "Teams",
    filter: "team",
    belongs: ["customer_id"],
    empty: "A team's budget holds over all of its keys together.",
  },
  users: {
    path: "users",
    list: "users",
    one: "user",
    word: "user",
    words: "Users",
    filter: "user",
    belongs: ["team_id", "customer_id"],
    empty: "A user's limits hold over all of that person's keys.",
  },
  projects: {
    path: "projects",
    list: "projects",
    one: "project",
    word: "project",
    words: "Projects",
    filter: "project",
    belongs: ["team_id", "customer_id"],
    empty: "A project's budget holds over every key that works for it.",
  },
  keys: {
    path: "virtual-keys",
    list: "virtual_keys",
    one: "virtual_key",
    word: "key",
    words: "Keys",
    filter: "vk",
    belongs: ["team_id", "user_id", "project_id", "customer_id"],
    empty:
      "Agents are given virtual keys instead of the provider's. A key says whose calls they are, which models they may use and what they may spend.",
  },
  models: {
    path: "model-configs",
    list: "model_configs",
    one: "model_config",
    word: "model limit",
    words: "Models",
    filter: "model",
    belongs: [],
    empty: "Limits for a model hold whoever calls it.",
  },
};

export const REFERS = {
  customer_id: ["customers", "Customer"],
  team_id: ["teams", "Team"],
  user_id: ["users", "User"],
  project_id: ["projects", "Project"],
};

export const base = (kind) => `/api/governance/${KINDS[kind].path}`;
export const one = (kind, id) => `${base(kind)}/${encodeURIComponent(id)}`;

/** The values of keys just made, by id: shown until their page is left, and nowhere else. */
export const fresh = new Map();

export const nameOf = (entity) => entity.name || entity.model_name || entity.id;

const BUDGET = ["max_limit", "reset_duration", "enforcement", "calendar_aligned", "timezone"];
const RATE = [
  "request_max_limit",
  "request_reset_duration",
  "token_max_limit",
  "token_reset_duration",
  "max_concurrent",
  "calendar_aligned",
  "timezone",
];

const only = (fields) => (value) =>
  value && Object.fromEntries(fields.filter((f) => value[f] !== null && value[f] !== undefined).map((f) => [f, value[f]]));

/** Limits as they are written, without what is live beside them. */
export const writtenBudget = only(BUDGET);
const writtenRate = only(RATE);

export function writtenConfig(c) {
  const made = { provider: c.provider, allowed_models: c.allowed_models, weight: c.weight };
  if (c.budget) made.budget = writtenBudget(c.budget);
  if (c.budgets?.length) made.budgets = c.budgets.map(writtenBudget);
  if (c.rate_limit) made.rate_limit = writtenRate(c.rate_limit);
  return made;
}

/** An entity's fields as they are written. */
const written = (e) => ({
  ...e,
  budget: writtenBudget(e.budget),
  budgets: e.budgets?.map(writtenBudget),
  rate_limit: writtenRate(e.rate_limit),
  provider_configs: e.provider_configs?.map(writtenConfig),
});

/**
 * Change these fields of the entity at a path, which looked like `seen` to whoever changes it. Throws ApiError, also where
 * somebody else has changed the same fields since.
 */
export async function change(path, seen, body) {
  const { data, etag } = await api("GET", path);
  const [now, was] = [Object.values(data)[0], seen].map(written);
  const moved = Object.keys(body).filter((f) => JSON.stringify(now[f] ?? null) !== JSON.stringify(was[f] ?? null));
  if (moved.length) {
    const words = moved.map((f) => f.replaceAll("_", " ")).join(", ");
    throw new ApiError(412, { message: `Somebody else has changed this meanwhile (${words}): nothing was saved. Open it again` });
  }
  return api("PUT", path, body, { "if-match": etag });
}
