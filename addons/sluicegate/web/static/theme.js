// Runs before the first paint, so that a dark page never flashes white: applies the theme chosen here, else the system's.
"use strict";
(() => {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const apply = () => {
    const chosen = localStorage.getItem("sluicegate-theme");
    document.documentElement.dataset.theme = chosen || (dark.matches ? "dark" : "light");
    dispatchEvent(new Event("themechange"));
  };
  dark.addEventListener("change", apply);
  addEventListener("storage", apply);
  window.sluicegateTheme = {
    chosen: () => localStorage.getItem("sluicegate-theme") || "system",
    choose(theme) {
      if (theme === "system") localStorage.removeItem("sluicegate-theme");
      else localStorage.setItem("sluicegate-theme", theme);
      apply();
    },
  };
  apply();
})();
