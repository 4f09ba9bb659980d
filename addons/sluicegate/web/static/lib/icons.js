// Icons for the navigation, 16 by 16, in the colour of the text next to them.
import { html } from "./ui.js";

const PATHS = {
  overview: "M2 13V8M6 13V3M10 13V6M14 13V9",
  budgets: "M2 4h12M2 8h9M2 12h5",
  calls: "M2 5h12l-3-3M14 11H2l3 3",
  keys: "M9.5 6.5a3.5 3.5 0 1 1-1.2-2.6M8 8.5l5.5 5.5M11 11.5l2-2",
  users: "M8 7.5a2.7 2.7 0 1 0 0-5.5 2.7 2.7 0 0 0 0 5.5M3 14c.3-3 2.2-4.5 5-4.5s4.7 1.5 5 4.5",
  teams:
    "M5.5 7a2.3 2.3 0 1 0 0-4.6 2.3 2.3 0 0 0 0 4.6M1.5 13c.2-2.5 1.7-4 4-4s3.8 1.5 4 4M10.5 2.8a2.2 2.2 0 0 1 0 4.2M11.5 9.2c1.8.4 2.8 1.7 3 3.8",
  projects: "M2 4.5V13h12V5H8L6.5 3H2z",
  customers: "M3 14V2.5h6V14M9 6h4v8M1.5 14h13M5.5 5.5h1M5.5 8.5h1",
  models: "M8 1.8l5.5 3.1v6.2L8 14.2l-5.5-3.1V4.9zM2.7 5L8 8l5.3-3M8 8v6",
  providers: "M4.5 12.5a3 3 0 0 1-.3-6 4 4 0 0 1 7.7.8 2.7 2.7 0 0 1-.4 5.2z",
  routes: "M2 8h4l3-4.5h5M6 8l3 4.5h5M12 1.8l2 1.7-2 1.7M12 10.8l2 1.7-2 1.7",
  features: "M5 2.5h6a2.5 2.5 0 0 1 0 5H5a2.5 2.5 0 0 1 0-5zM5 8.5h6a2.5 2.5 0 0 1 0 5H5a2.5 2.5 0 0 1 0-5zM11 5h.01M5 11h.01",
  policy: "M4 1.8h5.5L12.5 5v9.2H4zM6.5 7h3.5M6.5 10h3.5",
  health: "M1.5 8.5h3l2-5 3 9 2-4h3",
  usage: "M2 13V8M6 13V3M10 13V6M14 13V9",
};

export const Icon = ({ name }) =>
  html`<svg class="ico" viewBox="0 0 16 16" width="16" height="16" aria-hidden="true">
    <path d=${PATHS[name] || ""} fill="none" stroke="currentColor" stroke-width="1.5" stroke-linecap="round" stroke-linejoin="round" /></svg>`;
