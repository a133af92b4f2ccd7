// Lines over time, drawn by uPlot in the page's colours.
import uPlot from "./vendor/uplot.js";
import { colour, time } from "./format.js";
import { html, useEffect, useRef } from "./vendor/preact.js";

function options({ series, format, width, height }) {
  const [faint, line] = [colour("--faint"), colour("--line")];
  const axis = { stroke: faint, grid: { stroke: line, width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
  return {
    width,
    height,
    padding: [8, 18, 0, 0],
    cursor: { y: false, points: { size: 6 } },
    legend: { show: true, live: true },
    scales: { y: { range: (_, low, high) => [0, Math.max(high * 1.1, 1e-9)] } },
    axes: [
      { ...axis, size: 26, space: 70, incrs: [1, 5, 10, 30, 60, 300, 600, 1800, 3600], values: (_, times, __, ___, step) => times.map((at) => time(at * 1000).slice(0, step < 60 ? 8 : 5)) },
      { ...axis, size: 58, values: (_, values) => values.map(format) },
    ],
    series: [
      { value: "{HH}:{mm}:{ss}" },
      ...series.map(({ label, stroke, fill }) => ({
        label,
        stroke,
        width: 1.75,
        fill: fill ? `${stroke}22` : undefined,
        points: { show: false },
        // Where no moment is pointed at, the newest.
        value: (plot, value, place) => format(value ?? plot.data[place]?.findLast((known) => known != null)),
      })),
    ],
  };
}

// `data` is `[times in seconds, values, …]`.
export function Chart({ data, series, format, height = 150, label }) {
  const place = useRef();
  const plot = useRef();
  useEffect(() => {
    const host = place.current;
    const make = () => {
      plot.current?.destroy();
      plot.current = new uPlot(options({ series, format, width: host.clientWidth, height }), host.data ?? data, host);
    };
    make();
    const scheme = matchMedia("(prefers-color-scheme: dark)");
    scheme.addEventListener("change", make);
    const resized = new ResizeObserver(() => plot.current.setSize({ width: host.clientWidth, height }));
    resized.observe(host);
    return () => {
      scheme.removeEventListener("change", make);
      resized.disconnect();
      plot.current.destroy();
    };
  }, []);
  useEffect(() => {
    place.current.data = data;
    plot.current?.setData(data);
  }, [data]);
  return html`<div class="chart" ref=${place} role="img" aria-label=${label}></div>`;
}
