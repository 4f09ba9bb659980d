// The kinds of entities in a policy: where the API has them, what they belong to, and which of their fields can be edited.
import { ApiError, api } from "./api.js";

/**
 * By the name of their page: `path` and `list` in the API, `entity` the API's word for one, `filter` the call list's
 * parameter, `parents` the fields that name what one belongs to; the rest is text.
 */
export const KINDS = {
  customers: {
    path: "customers",
    list: "customers",
    entity: "customer",
    noun: "customer",
    title: "Customers",
    filter: "customer",
    parents: [],
    description: "A customer pays in the end: a company or a department. Its budget covers all of its teams.",
  },
  teams: {
    path: "teams",
    list: "teams",
    entity: "team",
    noun: "team",
    title: "Teams",
    filter: "team",
    parents: ["customer_id"],
    description: "A team's budget covers all of its keys together.",
  },
  users: {
    path: "users",
    list: "users",
    entity: "user",
    noun: "user",
    title: "Users",
    filter: "user",
    parents: ["team_id", "customer_id"],
    description: "A user's limits cover all of that person's keys.",
  },
  projects: {
    path: "projects",
    list: "projects",
    entity: "project",
    noun: "project",
    title: "Projects",
    filter: "project",
    parents: ["team_id", "customer_id"],
    description: "A project's budget covers every key that works for it.",
  },
  keys: {
    path: "virtual-keys",
    list: "virtual_keys",
    entity: "virtual_key",
    noun: "key",
    title: "Virtual keys",
    filter: "vk",
    parents: ["team_id", "user_id", "project_id", "customer_id"],
    description:
      "Agents get virtual keys instead of provider keys. A virtual key says whose calls they are, which models they may use and what they may spend.",
  },
  models: {
    path: "model-configs",
    list: "model_configs",
    entity: "model_config",
    noun: "model limit",
    title: "Models",
    filter: "model",
    parents: [],
    description: "A model's limits apply to everyone who calls it.",
  },
};

/** The kind that a field refers to, and its label. */
export const REFERENCES = {
  customer_id: ["customers", "Customer"],
  team_id: ["teams", "Team"],
  user_id: ["users", "User"],
  project_id: ["projects", "Project"],
};

export const listPath = (kind) => `/api/governance/${KINDS[kind].path}`;
export const entityPath = (kind, id) => `${listPath(kind)}/${encodeURIComponent(id)}`;

/** The path by which one entity is read without the ids of all that belongs to it. */
export const alone = (path) => `${path}?members=false`;

/** The values of keys just created, by id: shown until their page is left, and nowhere else. */
export const newKeyValues = new Map();

export const nameOf = (entity) => entity.name || entity.model_name || entity.id;

const BUDGET_FIELDS = ["max_limit", "reset_duration", "enforcement", "calendar_aligned", "timezone", "raises"];
const RATE_LIMIT_FIELDS = [
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

/** Limits as the policy has them, without the live usage that the API adds. */
export const editableBudget = only(BUDGET_FIELDS);
const editableRateLimit = only(RATE_LIMIT_FIELDS);

export function editableConfig(c) {
  /** @type {any} */
  const config = { provider: c.provider, allowed_models: c.allowed_models, weight: c.weight };
  if (c.blacklisted_models?.length) config.blacklisted_models = c.blacklisted_models;
  if (c.default_model) config.default_model = c.default_model;
  if (c.key_names) config.key_names = c.key_names;
  if (c.budget) config.budget = editableBudget(c.budget);
  if (c.budgets?.length) config.budgets = c.budgets.map(editableBudget);
  if (c.rate_limit) config.rate_limit = editableRateLimit(c.rate_limit);
  return config;
}

const editableEntity = (e) => ({
  ...e,
  budget: editableBudget(e.budget),
  budgets: e.budgets?.map(editableBudget),
  rate_limit: editableRateLimit(e.rate_limit),
  provider_configs: e.provider_configs?.map(editableConfig),
});

/**
 * Change these fields of the entity at a path, which looked like `seen` to the person who edits it. Throws ApiError, also if
 * someone else has changed the same fields since.
 */
export async function saveChange(path, seen, body) {
  const { data, etag } = await api("GET", alone(path));
  const [current, before] = [Object.values(data)[0], seen].map(editableEntity);
  const conflicts = Object.keys(body).filter(
    (f) => JSON.stringify(current[f] ?? null) !== JSON.stringify(before[f] ?? null),
  );
  if (conflicts.length) {
    const fields = conflicts.map((f) => f.replaceAll("_", " ")).join(", ");
    throw new ApiError(412, {
      message: `Someone else has changed this in the meantime (${fields}). Nothing was saved; open it again`,
    });
  }
  return api("PUT", path, body, etag === null ? {} : { "if-match": etag });
}
