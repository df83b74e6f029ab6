import { chosen, drawPeople, personColor } from "./drawing.js";
import { answerOf, fetchJson } from "./requests.js";

const LONGEST = 1600; // pixels of the canvas that is shown
const MOST_ENLARGED = 3;
const $ = (id) => document.getElementById(id);
const options = $("options").elements;
const maps = ["heatmaps", "tags"];

let model = null;
let current = null; // the image that is shown: { file, bitmap, result, backgrounds, name, abort }
let wanted = null; // the one that was opened last
let emphasized = null;

async function start() {
  $("address").textContent = location.origin + "/";
  model = await fetchJson("api/model");
  $("model").textContent = `${model.name}, input ${model.input_size} px, ${model.joints.length} joints`;
  const { bytes, pixels } = model.limits;
  $("allowed").textContent = `JPEG, PNG, WebP or BMP, up to ${bytes / 1e6} MB and ${pixels / 1e6} megapixels`;
  options.joint.min = Math.min(model.heatmap_threshold, 1);
  options.joint.value = Math.max(model.heatmap_threshold, 0);
  showThresholds();
}

async function post(path, image) {
  const headers = { "Content-Type": image.file.type || "application/octet-stream" };
  return answerOf(path, { method: "POST", body: image.file, headers, signal: image.abort.signal });
}

async function open(file) {
  wanted?.abort.abort();
  const image = { file, name: file.name || "image", abort: new AbortController(), backgrounds: {} };
  wanted = image;
  await working(image, async () => {
    if (file.size > model.limits.bytes) throw new Error(`larger than ${model.limits.bytes / 1e6} MB`);
    image.result = await (await post("api/poses", image)).json();
    image.result.source = image.name;
    image.bitmap = await createImageBitmap(file, { imageOrientation: "from-image" });
    await loadBackground(image);
    if (image === wanted) show(image);
  });
}

function show(image) {
  current = image;
  const best = Math.max(0, ...image.result.predictions.map((person) => person.score));
  options.person.value = Math.max(0.1, 0.4 * best);
  $("options").querySelector("fieldset").disabled = false;
  $("empty").hidden = true;
  $("canvas").hidden = false;
  refresh();
}

/** Run a task for the image that was opened last; show that it runs, and its error. */
async function working(image, task) {
  showError("");
  $("busy").hidden = false;
  try {
    await task();
  } catch (error) {
    if (image === wanted && error.name !== "AbortError") showError(`${image.name}: ${error.message}`);
  } finally {
    if (image === wanted) $("busy").hidden = true;
  }
}

async function loadBackground(image) {
  const kind = options.background.value;
  if (!maps.includes(kind) || image.backgrounds[kind]) return;
  const content = await (await post(`api/${kind}`, image)).blob();
  image.backgrounds[kind] = await createImageBitmap(content);
}

function shown() {
  return chosen(current.result.predictions, Number(options.person.value), Number(options.joint.value));
}

function paint(canvas, image, scale) {
  const [width, height] = image.result.image_size;
  canvas.width = Math.max(Math.round(width * scale), 1);
  canvas.height = Math.max(Math.round(height * scale), 1);
  const context = canvas.getContext("2d");
  context.drawImage(image.backgrounds[options.background.value] ?? image.bitmap, 0, 0, canvas.width, canvas.height);
  // a joint's place counts from the middle of the first pixel
  context.setTransform(scale, 0, 0, scale, scale / 2, scale / 2);
  if (options.poses.checked) {
    const settings = { size: [width, height], unit: 1 / scale, boxes: options.boxes.checked, emphasized };
    drawPeople(context, shown(), model, settings);
  }
}

function showThresholds() {
  for (const name of ["person", "joint"]) $(`${name}_value`).textContent = Number(options[name].value).toFixed(2);
}

function redraw() {
  if (!current) return;
  paint($("canvas"), current, Math.min(LONGEST / Math.max(...current.result.image_size), MOST_ENLARGED));
}

function refresh() {
  showThresholds();
  if (!current) return;
  const people = shown();
  emphasized = null;
  redraw();
  const { predictions, time, image_size: size } = current.result;
  const seconds = Object.values(time).reduce((sum, part) => sum + part, 0);
  const count = `${people.length} ${people.length === 1 ? "person" : "people"}`;
  const rest = predictions.length - people.length;
  $("status").textContent =
    `${count}${rest ? `, ${rest} more below the thresholds` : ""}; ${size.join("×")} px, ${seconds.toFixed(2)} s`;
  $("canvas").setAttribute("aria-label", `${current.name} with ${count}`);
  $("people_title").hidden = !people.length;
  $("people").replaceChildren(...people.map(listed));
}

function listed(person) {
  const [item, button, swatch, score] = ["li", "button", "i", "span"].map((name) => document.createElement(name));
  const found = Object.values(person.keypoints).filter(Boolean).length;
  swatch.style.background = personColor(model, person.number);
  score.textContent = person.score.toFixed(2);
  button.append(swatch, `${found} of ${model.joints.length} joints`, score);
  button.type = "button";
  button.title = "Point here to see this person alone";
  const emphasize = (number) => () => {
    emphasized = number;
    redraw();
  };
  for (const event of ["mouseenter", "focus"]) button.addEventListener(event, emphasize(person.number));
  for (const event of ["mouseleave", "blur"]) button.addEventListener(event, emphasize(null));
  item.append(button);
  return item;
}

function showError(text) {
  $("error").textContent = text;
}

function save(blob, ending) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = current.name.replace(/\.[^.]*$/, "") + ending;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

function saveJson() {
  const predictions = shown().map(({ number, ...person }) => person);
  const text = JSON.stringify({ ...current.result, predictions }, null, 1) + "\n";
  save(new Blob([text], { type: "application/json" }), ".predictions.json");
}

function saveImage() {
  const canvas = document.createElement("canvas");
  emphasized = null;
  paint(canvas, current, 1);
  canvas.toBlob((blob) => (blob ? save(blob, ".poses.jpg") : showError("the image is too large to save")), "image/jpeg", 0.92);
}

function openFirst(files) {
  if (!model) return;
  const file = [...(files ?? [])].find((one) => one.type.startsWith("image/")) ?? files?.[0];
  if (file) open(file);
}

$("file").addEventListener("change", (event) => {
  openFirst(event.target.files);
  event.target.value = ""; // the same file may be chosen again
});
$("options").addEventListener("submit", (event) => event.preventDefault());
$("options").addEventListener("input", async (event) => {
  const image = current;
  if (event.target.name === "background" && image === wanted) await working(image, () => loadBackground(image));
  if (image === current) refresh();
});
$("save_json").addEventListener("click", saveJson);
$("save_image").addEventListener("click", saveImage);
document.addEventListener("paste", (event) => openFirst(event.clipboardData?.files));
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dragging");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("dragging");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dragging");
  openFirst(event.dataTransfer?.files);
});

start().catch((error) => showError(error.message));
