// What theme.js gives to the page.
interface Window {
  sluicegateTheme: { chosen(): string; choose(theme: string): void };
}
