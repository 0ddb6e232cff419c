"use strict";
// A prediction as a person reads it: numbers with their intervals, or classes with their set.

const MOST = 14; // classes that are shown

/** Return elements; of: name of an answer -> its value; label: what is known, or null. */
function predictionShown(model, of, label) {
  const {names, kind} = model.task, level = Math.round(100 * model.level);
  if (of("mean") === null) return [element("p", {className: "soft"}, "no prediction")];
  if (kind !== "regression") return [barsShown(names, of("mean"), of("within"), label, level)];
  const [mean, low, high, draws] = ["mean", "low", "high", "draws"].map(of);
  if (!names.length) return [numberShown(model.task, "", mean, low, high, draws, label, level)];
  return names.map((name, i) => numberShown(model.task, name, mean[i], low[i], high[i],
    draws.map(draw => draw[i]), label?.[i] ?? null, level));
}

function numberShown(task, name, mean, low, high, draws, label, level) {
  const range = [task.low, task.high], number = value => shown(value, task.high - task.low);
  const told = label === null ? "" : ` · label ◇ ${number(label)}`;
  return element("div", {className: "answer"},
    element("p", {className: "name", hidden: !name}, name),
    element("p", {className: "number"}, number(mean)),
    element("p", {className: "soft"}, `${level} % interval ${number(low)} to ${number(high)}`,
      element("span", {className: "label"}, told)),
    numberPicture({mean, low, high, draws, label, range}));
}

function barsShown(names, mean, within, label, level) {
  const isTrue = i => Array.isArray(label) ? label[i] > 0 : label === i || label === names[i];
  const few = names.length <= MOST;
  const order = [...names.keys()].sort((a, b) => few ? a - b : mean[b] - mean[a]).slice(0, MOST);
  const rows = order.flatMap(i => [
    element("span", {className: `of ${within[i] ? "" : "out"} ${isTrue(i) ? "label" : ""}`,
      title: names[i]}, isTrue(i) ? `${names[i]} ◇` : names[i]),
    element("div", {className: within[i] ? "track in" : "track"},
      element("i", {style: `width: ${100 * mean[i]}%`})),
    element("span", {className: "much"}, `${Math.round(100 * mean[i])} %`)]);
  const members = names.filter((_, i) => within[i]).join(", ") || "none";
  return element("div", {className: "answer"}, element("div", {className: "bars"}, ...rows),
    element("p", {className: "soft"}, `${level} % set, in colour: ${members}`,
      element("span", {className: "label"}, label === null ? "" : " · label ◇")));
}
