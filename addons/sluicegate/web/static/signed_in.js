// The last page of signing in at the company: keeps the session path for the dashboard, and opens it.
import { SESSION_PATH_KEY } from "./lib/api.js";

const place = document.body.dataset.place;
if (place) {
  localStorage.setItem(SESSION_PATH_KEY, place);
  location.replace("/");
}
