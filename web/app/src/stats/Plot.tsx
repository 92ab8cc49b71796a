import { useEffect, useRef, useState } from "react";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { type Columns, MOST_LINES } from "./series";

const HEIGHT = 180;
/** Colours and dashes of the lines, in pairs, so that no line is told by its colour alone. */
export const LINES: readonly { readonly color: string; readonly dash: readonly number[] }[] = [
  { color: "--plot-1", dash: [] },
  { color: "--plot-2", dash: [8, 4] },
  { color: "--plot-3", dash: [2, 3] },
  { color: "--plot-4", dash: [12, 3, 2, 3] },
  { color: "--plot-5", dash: [5, 5] },
  { color: "--plot-6", dash: [1, 5] },
].slice(0, MOST_LINES);

/** The lines of the first models. Its table has the same numbers, so a screen reader gets the table only. */
export function Plot({ columns, label }: { columns: Columns; label: string }) {
  const place = useRef<HTMLDivElement>(null);
  const theme = useThemeChanges();
  useEffect(() => {
    const element = place.current;
    if (element === null) return;
    const plot = new uPlot(optionsOf(columns, element), dataOf(columns), element);
    const resized = new ResizeObserver(() => { plot.setSize({ width: element.clientWidth, height: HEIGHT }); });
    resized.observe(element);
    return () => {
      resized.disconnect();
      plot.destroy();
    };
  }, [columns, theme]);
  return <div className="plot" ref={place} role="img" aria-label={label} />;
}

function dataOf({ days, values }: Columns): uPlot.AlignedData {
  return [days.map((day) => Date.parse(day) / 1000), ...values.slice(0, MOST_LINES).map((line) => [...line])];
}

function optionsOf({ models, values }: Columns, element: HTMLElement): uPlot.Options {
  const text = colorOf(element, "--quiet");
  const line = colorOf(element, "--line");
  const axis = { stroke: text, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 } };
  return {
    width: element.clientWidth,
    height: HEIGHT,
    // The days are days in UTC, wherever the reader is.
    tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
    legend: { show: false },
    cursor: { show: false },
    scales: { y: { range: (_, least, most) => [Math.min(0, least), most > 0 ? most * 1.05 : 1] } },
    axes: [
      { ...axis, values: [[86_400, "{MMM} {D}", "\n{YYYY}", null, null, null, null, null, 1]], space: 60 },
      { ...axis, size: 60, space: 28, values: (_, splits) => splits.map(shortNumber) },
    ],
    series: [
      {},
      ...values.slice(0, MOST_LINES).map((_, number): uPlot.Series => ({
        label: models[number] ?? "",
        stroke: colorOf(element, LINES[number]?.color ?? "--text"),
        dash: [...(LINES[number]?.dash ?? [])],
        width: 2,
        spanGaps: false,
        points: { show: true, size: 5 },
      })),
    ],
  };
}

/** Return the colour of a variable in the theme that is shown. */
function colorOf(element: HTMLElement, variable: string): string {
  const probe = document.createElement("span");
  probe.style.color = `var(${variable})`;
  element.append(probe);
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color;
}

function shortNumber(value: number): string {
  return Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: value !== 0 && Math.abs(value) < 0.1 ? 4 : 2 }).format(value);
}

/** Return a number that rises whenever the theme changes: a canvas does not follow it by itself. */
function useThemeChanges(): number {
  const [count, setCount] = useState(0);
  useEffect(() => {
    const change = () => { setCount((known) => known + 1); };
    const chosen = new MutationObserver(change);
    chosen.observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
    const system = matchMedia("(prefers-color-scheme: dark)");
    system.addEventListener("change", change);
    return () => {
      chosen.disconnect();
      system.removeEventListener("change", change);
    };
  }, []);
  return count;
}
