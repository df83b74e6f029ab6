import { drawPeople, personColor } from "./drawing.js";
import { chips, ImageList } from "./list.js";
import { drawErrors, missed } from "./marks.js";
import { answerOf, fetchJson } from "./requests.js";

const LONGEST = 1600; // pixels of the canvas that is shown
const MOST_ENLARGED = 4;
const POLL = 1500; // ms
const WHITE = "#f4f6f8";
const $ = (id) => document.getElementById(id);
const options = $("options").elements;

let dataset = null;
let list = null;
let current = null; // the image that is shown: { id, about, predictions (null: not known), backgrounds, abort }
let emphasized = null;

async function start() {
  dataset = await fetchJson("api/dataset");
  $("model").textContent = dataset.name;
  const scored = dataset.annotated && dataset.predictions;
  const shown = { fields: dataset.fields, annotated: dataset.annotated, predicted: dataset.predictions, scored };
  for (const [name, there] of Object.entries(shown)) {
    for (const one of there ? [] : document.querySelectorAll(`.${name}`)) one.hidden = true;
  }
  $("people").hidden = !dataset.predictions;
  options.joint.append(...dataset.joints.map((name) => new Option(name.replaceAll("_", " "), name)));
  if (scored) addErrors();
  list = new ImageList(dataset, open);
  const wanted = Number(location.hash.slice(1));
  await list.load(wanted ? { around: wanted } : {});
  const rows = list.part.rows;
  open((rows.find((row) => row.image_id === wanted) ?? rows[0]).image_id);
  if (dataset.predictions) await poll();
}

function addErrors() {
  const orders = $("selection").elements.order;
  for (const [name, color] of Object.entries(dataset.errors)) {
    if (name !== "good") orders.add(new Option(`most ${name} first`, name));
    const [label, box, dot, count] = ["label", "input", "i", "span"].map((tag) => document.createElement(tag));
    box.type = "checkbox";
    box.name = `kind_${name}`;
    box.checked = name !== "good";
    dot.style.background = color;
    label.append(box, dot, name === "missed" ? "people missed" : name, count);
    $("kinds").append(label);
  }
}

/** Follow the predictions until all are there. */
async function poll() {
  const { predicted } = await fetchJson("api/progress");
  const done = predicted >= dataset.images;
  $("progress").hidden = done;
  $("progress").querySelector("span").textContent = `predicted ${predicted} of ${dataset.images}`;
  Object.assign($("progress").querySelector("progress"), { max: dataset.images, value: predicted });
  if (predicted !== poll.last) await list.refresh();
  poll.last = predicted;
  if (!done) setTimeout(() => poll().catch((error) => showError(error.message)), POLL);
}

async function open(id) {
  current?.abort.abort();
  const image = (current = { id, abort: new AbortController(), backgrounds: {}, predictions: null });
  emphasized = null;
  list.mark(id);
  list.reveal();
  history.replaceState(null, "", `#${id}`);
  const path = `api/images/${id}`;
  await working(image, "loading", async () => {
    image.about = await fetchJson(path, { signal: image.abort.signal });
    image.backgrounds.pixels = await bitmap(image, "pixels");
    $("canvas").hidden = false;
    refresh(image);
  });
  if (image === current) $("canvas").hidden = !image.backgrounds.pixels;
  if (!dataset.predictions || !image.backgrounds.pixels) return;
  await working(image, "finding people", async () => {
    image.predictions = await fetchJson(`${path}/predictions`, { signal: image.abort.signal });
    refresh(image);
  });
  await loadBackground(image);
}

async function bitmap(image, what) {
  const answer = await answerOf(`api/images/${image.id}/${what}`, { signal: image.abort.signal });
  return createImageBitmap(await answer.blob());
}

/** Run a task for an image; show that it runs, and its error. */
async function working(image, what, task) {
  if (image !== current) return;
  showError("");
  $("doing").textContent = `${what} …`;
  $("busy").hidden = false;
  try {
    await task();
  } catch (error) {
    if (image === current && error.name !== "AbortError") showError(error.message);
  } finally {
    if (image === current) $("busy").hidden = true;
  }
}

function backgroundKey() {
  const kind = options.background.value;
  return kind === "pixels" ? kind : `${kind}?joint=${encodeURIComponent(options.joint.value)}`;
}

async function loadBackground(image) {
  const key = backgroundKey();
  if (!image.backgrounds[key]) {
    await working(image, "running the network", async () => {
      image.backgrounds = { pixels: image.backgrounds.pixels, [key]: await bitmap(image, key) };
    });
  }
  refresh(image);
}

function redraw() {
  if (!current?.backgrounds.pixels) return;
  const { about, predictions, backgrounds } = current;
  const [width, height] = about.image_size;
  const canvas = $("canvas");
  const scale = Math.min(LONGEST / Math.max(width, height), MOST_ENLARGED);
  canvas.width = Math.max(Math.round(width * scale), 1);
  canvas.height = Math.max(Math.round(height * scale), 1);
  const context = canvas.getContext("2d");
  context.drawImage(backgrounds[backgroundKey()] ?? backgrounds.pixels, 0, 0, canvas.width, canvas.height);
  // a joint's place counts from the middle of the first pixel
  context.setTransform(scale, 0, 0, scale, scale / 2, scale / 2);
  const unit = canvas.width / (canvas.clientWidth || canvas.width) / scale; // a mark is as large on any screen
  const settings = { size: [width, height], unit: 1 / scale, boxes: false, emphasized: null };
  if (options.truth.checked) {
    // white beside predictions, which have the colors of people
    const color = options.predictions.checked && predictions?.length ? WHITE : undefined;
    drawPeople(context, drawable(about.truth).map((one) => ({ ...one, color, annotated: true })), dataset, settings);
  }
  if (!predictions) return;
  const shown = drawable(predictions).filter(isSure);
  if (options.predictions.checked) drawPeople(context, shown, dataset, { ...settings, emphasized });
  if (options.errors.checked) {
    const colors = Object.fromEntries(Object.entries(dataset.errors).filter(([name]) => options[`kind_${name}`]?.checked));
    const marked = shown.filter(({ number }) => emphasized === null || emphasized === number);
    if (emphasized !== null) delete colors.missed;
    drawErrors(context, { truth: about.truth, predictions }, marked, { colors, unit });
  }
}

const isSure = (person) => person.score >= Number(options.person.value);

function drawable(people) {
  return people
    .map((person, number) => ({ ...person, number }))
    .filter((person) => Object.values(person.keypoints).some(Boolean));
}

/** Show an image with all that is known of it, if it is still the one to show. */
function refresh(image) {
  if (image !== current) return;
  const { about, predictions } = image;
  redraw();
  $("person_value").textContent = Number(options.person.value).toFixed(2);
  const people = `${about.truth.length} annotated${predictions ? `, ${predictions.length} predicted` : ""}`;
  const id = about.file.includes(about.id) ? "" : ` · image ${about.id}`;
  $("caption").textContent = `${about.file}${id} · ${about.image_size.join("×")} px · ${people}`;
  $("canvas").setAttribute("aria-label", `${about.file}: ${people}`);
  const counts = predictions && countErrors(about.truth, predictions);
  for (const box of $("kinds").querySelectorAll("input")) {
    box.parentElement.querySelector("span").textContent = counts ? (counts[box.name.slice(5)] ?? 0) : "";
  }
  const unsure = (predictions ?? []).filter((person) => !isSure(person)).length;
  $("unsure").textContent = unsure ? `${unsure} more below the score` : "";
  $("people").replaceChildren(...(predictions ?? []).map(listed).filter((_, number) => isSure(predictions[number])));
}

function countErrors(truth, predictions) {
  const kinds = predictions.flatMap((person) => Object.values(person.errors ?? {}));
  const verdicts = predictions.map((person) => person.verdict);
  const lost = missed(truth, predictions).map(() => "missed");
  return [...kinds, ...verdicts, ...lost].reduce((sums, name) => ({ ...sums, [name]: (sums[name] ?? 0) + 1 }), {});
}

function listed(person, number) {
  const [item, button, swatch, score] = ["li", "button", "i", "span"].map((tag) => document.createElement(tag));
  swatch.style.background = personColor(dataset, number);
  score.textContent = `score ${person.score.toFixed(2)}`;
  const fit = { matched: `OKS ${person.oks?.toFixed(2)}`, none: "person", ignored: "in an ignored region" };
  button.append(swatch, fit[person.verdict] ?? person.verdict, score);
  if (person.errors) button.append(chips(countErrors([], [person]), dataset.errors));
  button.type = "button";
  const emphasize = (value) => () => {
    emphasized = value;
    redraw();
  };
  for (const event of ["mouseenter", "focus"]) button.addEventListener(event, emphasize(number));
  for (const event of ["mouseleave", "blur"]) button.addEventListener(event, emphasize(null));
  item.append(button);
  return item;
}

function showError(text) {
  $("error").textContent = text;
}

function step(by) {
  list?.step(by).catch((error) => showError(error.message));
}

const TOGGLES = { t: "truth", p: "predictions", e: "errors" };
const BACKGROUNDS = { 1: "pixels", 2: "heatmaps", 3: "tags" };

document.addEventListener("keydown", (event) => {
  const moves = { ArrowLeft: -1, ArrowRight: 1 };
  const typing = event.target.matches("select, input[type=number], input[type=radio]");
  if (typing || event.ctrlKey || event.altKey || event.metaKey) return;
  const key = event.key.toLowerCase();
  if (moves[event.key]) step(moves[event.key]);
  else if (TOGGLES[key]) options[TOGGLES[key]].click();
  else if (BACKGROUNDS[key] && dataset?.fields) document.querySelector(`[value=${BACKGROUNDS[key]}]`).click();
  else return;
  event.preventDefault();
});
$("previous").addEventListener("click", () => step(-1));
$("next").addEventListener("click", () => step(1));
$("options").addEventListener("submit", (event) => event.preventDefault());
$("options").addEventListener("input", () => current?.backgrounds.pixels && loadBackground(current));
// after a click the arrow keys are those of the images again
$("options").addEventListener("click", (event) => event.detail > 0 && event.target.type === "radio" && event.target.blur());
window.addEventListener("resize", redraw);

start().catch((error) => showError(error.message));
