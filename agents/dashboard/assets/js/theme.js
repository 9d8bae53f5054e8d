// Before the first paint: the theme that was chosen, else the system's. A classic script, since modules wait for the document.
(() => {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const chosen = () => localStorage.getItem("drawdown-theme");
  const apply = () => {
    document.documentElement.dataset.theme = chosen() ?? (system.matches ? "dark" : "light");
    document.dispatchEvent(new Event("themechange"));
  };
  apply();
  system.addEventListener("change", apply);
  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    const show = () => {
      const dark = document.documentElement.dataset.theme === "dark";
      button.setAttribute("aria-pressed", dark);
      button.querySelector("use").setAttribute("href", dark ? "#i-sun" : "#i-moon");
    };
    button.addEventListener("click", () => {
      const theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
      localStorage.setItem("drawdown-theme", theme);
      apply();
    });
    document.addEventListener("themechange", show);
    show();
  });
})();
