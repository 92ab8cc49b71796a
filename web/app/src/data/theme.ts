export type Theme = "system" | "light" | "dark";

const THEMES: readonly Theme[] = ["system", "light", "dark"];
const STORED = "turnstream.theme";

/** Return the theme that was chosen in this browser. */
export function storedTheme(): Theme {
  const stored = read();
  return THEMES.find((theme) => theme === stored) ?? "system";
}

/** Show a theme, and keep the choice in this browser. */
export function showTheme(theme: Theme): void {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  try {
    localStorage.setItem(STORED, theme);
  } catch {
    // A browser without storage shows the theme until the page is loaded again.
  }
}

export function nextTheme(theme: Theme): Theme {
  return THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length] ?? "system";
}

function read(): string | null {
  try {
    return localStorage.getItem(STORED);
  } catch {
    return null;
  }
}
