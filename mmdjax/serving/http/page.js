"use strict";
// What a person switches off is asked for again; one request at a time, the newest last.

const at = id => document.getElementById(id);
const narrow = matchMedia("(max-width: 52rem)");
const channels = () => narrow.matches ? 2 : 3; // that are shown beside each other
let model, examples = [], current, hidden = {}, first = {}, answer = null;
let started = false, seed = 0, asking = false, again = false;

const modalities = () => model.modalities.filter(m => !model.beside.includes(m.name));
const framesOf = name => current.features[name] || [];
const missing = (name, i) => framesOf(name)[i] === undefined || framesOf(name)[i].includes(null);
const isHidden = (name, i) => hidden[name].all || hidden[name].frames.has(i) || missing(name, i);
const observed = name => framesOf(name).some((_, i) => !isHidden(name, i));

function say(text, bad = false) {
  at("status").textContent = text;
  at("status").classList.toggle("bad", bad);
  at("answers").classList.toggle("stale", bad); // what is shown answers an earlier question
}

/** Return what the server answers, as JSON; throw its own words where it refuses. */
async function asked(path, options = {}) {
  let response;
  try { response = await fetch(path, options); }
  catch { throw Error("The server does not answer."); }
  const found = await response.json();
  if (!response.ok) throw Error(found.error);
  return found;
}

function showExamples(selected = 0) {
  at("examples").replaceChildren(...examples.map((example, i) => element("label", {},
    element("input", {type: "radio", name: "example", checked: i === selected,
      onchange: () => choose(example)}),
    element("span", {title: example.id}, example.id))));
  if (examples.length) choose(examples[selected]);
  else say("No utterances yet: open a file, or start the server with --examples.");
}

function choose(example) {
  current = example;
  for (const part of ["legend", "answers", "actions"]) at(part).hidden = false;
  for (const m of modalities()) {
    hidden[m.name] ??= {all: false, frames: new Set()};
    first[m.name] ??= 0;
  }
  // To begin with, something is drawn.
  if (!started && modalities().length > 1) hidden[modalities().at(-1).name].all = true;
  [started, answer] = [true, null];
  showModalities();
  ask();
}

function showAll() {
  hidden = {};
  if (current) choose(current);
}

async function ask() {
  if (asking) { again = true; return; }
  const seen = modalities().some(m => observed(m.name));
  if (!seen) { say("At least one frame has to be observed.", true); return; }
  const body = {};
  for (const {name} of model.modalities) {
    const frames = current.features[name];
    if (model.beside.includes(name) || !frames) body[name] = [frames];
    else if (!hidden[name].all) body[name] = [frames.map((f, i) => isHidden(name, i) ? null : f)];
  }
  asking = true;
  const [started, about] = [performance.now(), current];
  try {
    const path = `/${model.completes ? "impute" : "predict"}?seed=${seed}`;
    const headers = {"Content-Type": "application/json", "Accept": "application/json"};
    const found = await asked(path, {method: "POST", headers, body: JSON.stringify(body)});
    if (about === current) {
      answer = found;
      const time = Math.round(performance.now() - started);
      say(`${model.draws} draws, seed ${seed}, answered in ${time} ms`);
      showPrediction();
      modalities().forEach(m => { showCharts(m); showState(m); });
    }
  } catch (error) {
    say(error.message, true);
  }
  asking = false;
  if (again) { again = false; ask(); }
}

function changed() {
  modalities().forEach(m => { showFrames(m); showState(m); });
  ask();
}

// Modalities.

function showModalities() {
  at("modalities").replaceChildren(...modalities().map(m => {
    const whole = framesOf(m.name).length === 0;
    const toggle = element("input", {type: "checkbox", id: `on-${m.name}`, disabled: whole,
      checked: !whole && !hidden[m.name].all});
    toggle.setAttribute("role", "switch");
    toggle.onchange = () => { hidden[m.name].all = !toggle.checked; changed(); };
    const pages = m.frames > 1 && m.channels > 2;
    const turn = (step, sign, words) => element("button", {type: "button", textContent: sign,
      ariaLabel: `${words} channels of ${m.name}`, onclick: () => {
        const to = first[m.name] + step * channels();
        if (to < m.channels) first[m.name] = Math.max(to, 0);
        showCharts(m);
      }});
    const pager = element("div", {className: "pager", hidden: !pages},
      turn(-1, "‹", "previous"), element("small", {id: `page-${m.name}`}),
      turn(1, "›", "next"));
    return element("section", {className: "card", id: `card-${m.name}`},
      element("header", {},
        element("label", {className: "switch"}, toggle, element("h2", {}, m.name)),
        element("small", {id: `state-${m.name}`}), pager),
      element("div", {className: m.frames > 1 ? "charts" : "charts one", id: `charts-${m.name}`}),
      frameCells(m));
  }));
  modalities().forEach(m => { showCharts(m); showState(m); showFrames(m); });
}

/** Say how much of a modality is there, or was drawn. */
function showState(m) {
  const of = name => answer?.[name]?.[m.name][0] ?? [];
  const count = framesOf(m.name).length, exists = of("exists").filter(Boolean).length;
  const gaps = of("drawn").filter(Boolean).length, deviation = answer?.deviation?.[m.name][0];
  let text = count ? "" : "missing in this utterance; ";
  if (gaps) text += m.frames > 1 ? `${gaps} of ${exists} frames drawn` : "drawn";
  else text += m.frames > 1 ? `${count} frames, ${m.channels} channels` : `${m.channels} channels`;
  if (gaps && Number.isFinite(deviation)) text += `, deviation ${shown(deviation, 4)}`;
  at(`state-${m.name}`).textContent = text;
}

function frameCells(m) {
  const frames = framesOf(m.name);
  if (m.frames < 2 || !model.frame_gaps || !frames.length) return "";
  const row = element("div", {className: "frames", id: `frames-${m.name}`});
  row.setAttribute("role", "toolbar");
  row.setAttribute("aria-label", `Frames of ${m.name}: press to hide or show`);
  frames.forEach((_, i) => row.append(element("button", {type: "button", tabIndex: i ? -1 : 0,
    disabled: missing(m.name, i), title: `frame ${i + 1}`})));
  const isOff = i => hidden[m.name].frames.has(i);
  const set = (i, hide) => {
    if (i < 0 || missing(m.name, i) || isOff(i) === hide) return;
    hidden[m.name].frames[hide ? "add" : "delete"](i);
    changed();
  };
  let painting = null;
  const under = event => [...row.children].indexOf(
    document.elementFromPoint(event.clientX, row.getBoundingClientRect().top + 5));
  row.onpointerdown = event => {
    const i = under(event);
    if (i < 0 || event.button) return;
    painting = !isOff(i);
    row.setPointerCapture(event.pointerId);
    set(i, painting);
  };
  row.onpointermove = event => { if (painting !== null) set(under(event), painting); };
  row.onpointerup = row.onpointercancel = () => { painting = null; };
  row.onclick = event => { // of a screen reader: no pointer, no key
    const i = [...row.children].indexOf(event.target);
    if (!event.detail) set(i, !isOff(i));
  };
  row.onkeydown = event => {
    const cells = [...row.children], i = cells.indexOf(document.activeElement);
    const to = {ArrowLeft: i - 1, ArrowRight: i + 1, Home: 0, End: cells.length - 1}[event.key];
    if (event.key === " " || event.key === "Enter") set(i, !isOff(i));
    else if (to === undefined || !cells[to]) return;
    else {
      if (event.shiftKey) set(to, !isOff(to));
      cells.forEach((cell, place) => { cell.tabIndex = place === to ? 0 : -1; });
      cells[to].focus();
    }
    event.preventDefault();
  };
  return row;
}

function showFrames(m) {
  [...(at(`frames-${m.name}`)?.children ?? [])].forEach((cell, i) => {
    const off = hidden[m.name].all || hidden[m.name].frames.has(i);
    const state = missing(m.name, i) ? "missing" : off ? "hidden" : "observed";
    cell.setAttribute("aria-pressed", off);
    cell.setAttribute("aria-label", `frame ${i + 1}, ${state}`);
  });
}

function showCharts(m) {
  const of = name => answer?.[name]?.[m.name][0] ?? [];
  const [draws, drawn, exists] = [of("features"), of("drawn"), of("exists")];
  const count = exists.lastIndexOf(true) + 1 || framesOf(m.name).length;
  const wide = m.frames === 1; // one picture of all channels, in place of one a channel
  const figure = (places, frame, channel, caption) => {
    const given = places.map(i => framesOf(m.name)[frame(i)]?.[channel(i)] ?? null);
    const gap = places.map(i => drawn[frame(i)] ?? isHidden(m.name, frame(i)));
    const picture = channelPicture({
      seen: given.map((v, i) => gap[i] ? null : v), truth: given.map((v, i) => gap[i] ? v : null),
      drawn: places.map(i => Boolean(drawn[frame(i)])),
      draws: draws.map(draw => places.map(i => draw[frame(i)][channel(i)])),
      title: `${m.name}, ${caption}`,
      width: narrow.matches ? (wide ? 330 : 160) : wide ? 840 : 260});
    return element("figure", {}, picture, element("figcaption", {}, caption));
  };
  const upTo = size => [...Array(size).keys()];
  let figures;
  if (wide) figures = [figure(upTo(m.channels), () => 0, i => i, "over channels")];
  else {
    const from = first[m.name], to = Math.min(from + channels(), m.channels);
    figures = upTo(to - from).map(i => figure(upTo(count), frame => frame, () => from + i,
      `channel ${from + i + 1}`));
    at(`page-${m.name}`).textContent = `${from + 1}–${to} of ${m.channels}`;
  }
  at(`charts-${m.name}`).replaceChildren(...figures);
}

function showPrediction() {
  const conversation = model.beside.length > 0, place = Number(at("place").value) - 1;
  at("which").hidden = !conversation;
  if (conversation) at("place").max = answer.mean[0].length;
  const of = name => conversation ? answer[name]?.[0][place] : answer[name]?.[0];
  const label = conversation ? current.label?.[place] ?? null : current.label;
  at("prediction").replaceChildren(...predictionShown(model, of, label));
}

// Start.

async function open(file) {
  try {
    const type = file.name.endsWith(".json") ? "application/json" : "application/x-npz";
    const found = await asked("/examples", {method: "POST", headers: {"Content-Type": type,
      "Accept": "application/json"}, body: file});
    examples = found.utterances;
    showExamples();
  } catch (error) {
    say(`${file.name}: ${error.message}`, true);
  }
}

at("file").onchange = event => { if (event.target.files[0]) open(event.target.files[0]); };
addEventListener("dragover", event => {
  event.preventDefault();
  at("drop").classList.add("over");
});
addEventListener("dragleave", () => at("drop").classList.remove("over"));
addEventListener("drop", event => {
  event.preventDefault();
  at("drop").classList.remove("over");
  if (event.dataTransfer.files[0]) open(event.dataTransfer.files[0]);
});
at("again").onclick = () => { seed += 1; if (current) ask(); };
at("all").onclick = showAll;
narrow.onchange = () => { if (current) modalities().forEach(showCharts); };
at("place").onchange = () => { if (answer) showPrediction(); };

(async () => {
  try {
    model = (await asked("/health")).model;
    at("title").textContent = document.title = model.title;
    at("legend").replaceChildren(...(model.completes ? legend() : []),
      element("span", {}, model.frame_gaps ? "Press or drag over the bar of frames to hide some."
        : "This model fills whole modalities."));
    if (model.beside.length) at("pick").textContent = "Conversation";
    at("again").hidden = !model.completes;
    examples = (await asked("/examples")).utterances;
    showExamples();
  } catch (error) {
    say(error.message, true);
  }
})();
