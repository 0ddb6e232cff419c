"use strict";
// Pictures as SVG: a channel over frames, a number on its range, probabilities.

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 104, LEFT = 36, BOTTOM = 14;

/** Return an element with attributes and children; text is never read as markup. */
function element(name, attributes = {}, ...children) {
  const drawn = ["svg", "path", "circle", "rect", "line", "text", "g", "title"].includes(name);
  const made = drawn ? document.createElementNS(SVG, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key in made && !drawn) made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

const minus = text => text.replace("-", "−");
const rough = value => minus(String(Number(value.toPrecision(2))));

/** Return a number in words, to a three-hundredth of a range. */
function shown(value, range = 1) {
  return value === null ? "–" : minus(value.toFixed(range > 30 ? 0 : range > 3 ? 2 : 3));
}

/** Return what the lines of a picture mean. */
function legend() {
  const line = (kind, words) => element("span", {}, element("svg", {viewBox: "0 0 24 10"},
    element("path", {class: kind, d: "M0 5L24 5"})), ` ${words}`);
  return [line("seen", "observed"), line("draw", "a draw"), line("middle", "mean of the draws"),
    line("truth", "hidden from the model")];
}

/** Return the path of a line through points, broken where there is none. */
function path(points) {
  let pen = "M", line = "";
  for (const point of points) {
    if (point === null) { pen = "M"; continue; }
    line += `${pen}${point[0].toFixed(1)} ${point[1].toFixed(1)}`;
    pen = "L";
  }
  return line;
}

/**
 * Return a picture of one channel.
 *   seen: value or null of each frame; drawn: whether a frame was; draws: K lists of values;
 *   truth: value or null of each frame, where it is hidden from the model; title: in words;
 *   width: about that of the place, so that text has its size.
 */
function channelPicture({seen, drawn, draws, truth, title, width}) {
  const count = seen.length;
  const all = [...seen, ...truth, ...draws.flat()].filter(v => v !== null);
  let low = Math.min(...all), high = Math.max(...all);
  if (!all.length) [low, high] = [-1, 1];
  const margin = 0.06 * (high - low) || 1;
  [low, high] = [low - margin, high + margin];
  const step = (width - LEFT) / count;
  const x = i => LEFT + (i + 0.5) * step;
  const y = v => (HEIGHT - BOTTOM) * (high - v) / (high - low);
  const picture = element("svg", {viewBox: `0 0 ${width} ${HEIGHT}`, role: "img"},
    element("title", {}, title));
  const add = (name, attributes, ...text) => picture.append(element(name, attributes, ...text));
  drawn.forEach((is, i) => is && add("rect", {class: "gap", x: LEFT + i * step - 0.2, y: 0,
    width: step + 0.4, height: HEIGHT - BOTTOM}));
  add("line", {class: "axis", x1: LEFT, x2: width, y1: HEIGHT - BOTTOM, y2: HEIGHT - BOTTOM});
  const zero = {class: "axis zero", x1: LEFT, x2: width, y1: y(0), y2: y(0)};
  if (low < 0 && high > 0) add("line", zero);
  for (const value of [high - margin, low + margin]) {
    add("text", {x: LEFT - 5, y: y(value) + 4, "text-anchor": "end"}, rough(value));
  }
  add("text", {x: LEFT, y: HEIGHT}, "1");
  add("text", {x: width, y: HEIGHT, "text-anchor": "end"}, String(count));
  // A drawn line begins and ends at the observed frames beside its gap.
  const beside = i => drawn[i] || drawn[i - 1] || drawn[i + 1];
  const through = values => path(values.map(
    (v, i) => v === null || !beside(i) ? null : [x(i), y(v)]));
  if (drawn.some(Boolean)) {
    for (const draw of draws) add("path", {class: "draw", d: through(draw)});
    const mean = draws[0].map((_, i) => draws.reduce((sum, d) => sum + d[i], 0) / draws.length);
    add("path", {class: "middle", d: through(mean)});
    add("path", {class: "truth", d: through(truth.map((v, i) => drawn[i] ? v : seen[i]))});
  }
  add("path", {class: "seen", d: path(seen.map((v, i) => v === null ? null : [x(i), y(v)]))});
  seen.forEach((v, i) => {
    const alone = seen[i - 1] == null && seen[i + 1] == null;
    if (v !== null && (count <= 24 || alone)) {
      add("circle", {class: "seen-dot", cx: x(i), cy: y(v), r: 2.2});
    }
  });
  return picture;
}

/** Return a number on its range [low, high]: interval, draws, mean, label or null. */
function numberPicture({mean, low, high, draws, label, range}) {
  const width = 304, middle = 24;
  const values = [low, high, label, ...range].filter(v => v !== null && Number.isFinite(v));
  const [from, to] = [Math.min(...values), Math.max(...values)];
  const x = v => 10 + (width - 20) * (v - from) / (to - from || 1);
  const picture = element("svg", {viewBox: `0 0 ${width} 56`, role: "img"}, element("title", {},
    "draws, their mean and the interval, on the range of labels"));
  const add = (name, attributes, ...text) => picture.append(element(name, attributes, ...text));
  add("line", {class: "axis", x1: 10, x2: width - 10, y1: middle, y2: middle});
  const ends = range[0] < 0 && range[1] > 0 ? [range[0], 0, range[1]] : range;
  for (const tick of ends) {
    add("line", {class: "axis", x1: x(tick), x2: x(tick), y1: middle + 12, y2: middle + 17});
    add("text", {x: x(tick), y: middle + 29, "text-anchor": "middle"}, rough(tick));
  }
  add("rect", {class: "interval", x: x(low), y: middle - 12, width: Math.max(1, x(high) - x(low)),
    height: 24, rx: 4});
  for (const draw of draws) add("circle", {class: "draw-dot", cx: x(draw), cy: middle, r: 3});
  add("rect", {class: "mean", x: x(mean) - 1.5, y: middle - 15, width: 3, height: 30, rx: 1.5});
  if (label !== null) {
    add("path", {class: "truth-mark", d: `M${x(label)} ${middle - 7}l7 7l-7 7l-7 -7z`});
  }
  return picture;
}
