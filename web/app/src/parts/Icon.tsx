const PATHS = {
  attach: "M8 12.5l6.5-6.5a3 3 0 0 1 4.200 4.200l-8 8a5 5 0 0 1-7-7L11 4",
  branch: "M6 4v10a4 4 0 0 0 4 4h4M6 8h6a4 4 0 0 1 4 4v0",
  check: "M4 12l5 5L20 6",
  close: "M6 6l12 12M18 6L6 18",
  columns: "M4 5h16v14H4zM12 5v14",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  down: "M12 5v14M6 13l6 6 6-6",
  edit: "M4 20h4L19 9l-4-4L4 16zM13 7l4 4",
  export: "M12 3v12M7 10l5 5 5-5M4 20h16",
  inspect: "M4 18l5-6 4 4 7-9M4 21h16",
  left: "M15 5l-7 7 7 7",
  menu: "M4 6h16M4 12h16M4 18h16",
  pin: "M9 3h6l-1 6 4 4H6l4-4zM12 13v8",
  plus: "M12 5v14M5 12h14",
  retry: "M4 4v6h6M20 20v-6h-6M5 15a8 8 0 0 0 14 1M19 9A8 8 0 0 0 5 8",
  right: "M9 5l7 7-7 7",
  search: "M11 4a7 7 0 1 1 0 14 7 7 0 0 1 0-14zM16 16l5 5",
  send: "M5 12h14M12 5l7 7-7 7",
  settings: "M4 7h10M18 7h2M4 17h2M10 17h10M14 5v4M8 15v4",
  signOut: "M10 4H4v16h6M14 8l4 4-4 4M18 12H9",
  statistics: "M4 20h16M7 16v-5M12 16V6M17 16v-8",
  stop: "M7 7h10v10H7z",
  theme: "M12 3a9 9 0 1 0 0 18zM12 3v18a9 9 0 0 0 0-18",
  trash: "M4 7h16M9 7V4h6v3M6 7l1 13h10l1-13",
  warning: "M12 4l9 16H3zM12 10v4M12 17v.5",
} as const;

export type IconName = keyof typeof PATHS;

/** A line drawing beside or in place of a label. Screen readers do not see it. */
export function Icon({ name }: { name: IconName }) {
  return (
    <svg className="drawing" viewBox="0 0 24 24" width="18" height="18" aria-hidden="true">
      <path d={PATHS[name]} />
    </svg>
  );
}
