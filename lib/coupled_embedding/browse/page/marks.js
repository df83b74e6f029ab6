// Errors on a canvas: rings around wrong joints, lines to where they belong, boxes around people.

const HALO = "rgb(255 255 255 / 85%)";
const LETTERS = { jitter: "J", inversion: "I", swap: "S", miss: "M" };

/**
 * Mark the errors of an image.
 *
 * context: its unit is a pixel of the image; unit: image pixels per pixel of the screen; truth, predictions: people as
 * the server describes them; shown: those of the predictions to mark; colors: of the kinds to show, by name.
 */
export function drawErrors(context, { truth, predictions }, shown, { colors, unit }) {
  const pen = { context, unit };
  for (const person of shown) {
    if (person.verdict === "matched") drawJoints(pen, person, truth[person.person], colors);
    else if (colors[person.verdict]) drawBox(pen, boxOf(person), colors[person.verdict], person.verdict);
  }
  for (const person of colors.missed ? missed(truth, predictions) : []) drawBox(pen, person.bbox, colors.missed, "missed");
}

/** Return the annotated people who count and whom no prediction was matched with. */
export function missed(truth, predictions) {
  const found = new Set(predictions.map((person) => person.person));
  return truth.filter((person, number) => person.counts && !found.has(number));
}

function drawJoints(pen, person, annotated, colors) {
  const wrong = Object.entries(person.errors).filter(([, kind]) => colors[kind] && kind !== "good");
  const placed = wrong.map(([joint, kind]) => {
    const target = annotated.keypoints[joint];
    return { kind, target, place: person.keypoints[joint] ?? target };
  });
  for (const { kind, target, place } of placed) {
    stroke(pen, colors[kind], 1.6, () => {
      pen.context.moveTo(place[0], place[1]);
      pen.context.lineTo(target[0], target[1]);
    });
  }
  for (const { kind, place } of placed) drawRing(pen, place, colors[kind], LETTERS[kind]);
  if (!colors.good) return;
  for (const [joint, kind] of Object.entries(person.errors)) {
    if (kind === "good") drawRing(pen, person.keypoints[joint] ?? annotated.keypoints[joint], colors.good, "");
  }
}

function drawRing(pen, [x, y], color, letter) {
  const { context, unit } = pen;
  const radius = (letter ? 8.5 : 5) * unit;
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  if (letter) {
    context.fillStyle = color;
    context.fill();
    context.strokeStyle = HALO;
    context.lineWidth = 1.5 * unit;
    context.stroke();
    text(pen, letter, x, y, inkOn(color), 11.5);
  } else stroke(pen, color, 1.8, () => context.arc(x, y, radius, 0, 2 * Math.PI));
}

function drawBox(pen, [left, top, width, height], color, label) {
  const { context, unit } = pen;
  context.setLineDash([8 * unit, 5 * unit]);
  stroke(pen, color, 2.4, () => context.rect(left, top, width, height));
  context.setLineDash([]);
  context.font = `600 ${13 * unit}px system-ui, sans-serif`;
  const [wide, high] = [context.measureText(label).width + 10 * unit, 19 * unit];
  const y = Math.max(top - high, 0);
  context.fillStyle = color;
  context.fillRect(left, y, wide, high);
  text(pen, label, left + wide / 2, y + high / 2, inkOn(color), 13);
}

function stroke({ context, unit }, color, width, path) {
  context.lineCap = "round";
  for (const [shade, extra] of [[HALO, 2.2], [color, 0]]) {
    context.beginPath();
    path();
    context.strokeStyle = shade;
    context.lineWidth = (width + extra) * unit;
    context.stroke();
  }
}

function text({ context, unit }, letters, x, y, color, size) {
  context.font = `700 ${size * unit}px system-ui, sans-serif`;
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.fillStyle = color;
  context.fillText(letters, x, y + 0.06 * size * unit);
}

/** Return black or white, whichever is legible on a color such as "#0072b2". */
function inkOn(color) {
  const [red, green, blue] = [1, 3, 5].map((start) => parseInt(color.slice(start, start + 2), 16));
  return 0.3 * red + 0.59 * green + 0.11 * blue > 125 ? "#101014" : "white";
}

function boxOf(person) {
  const points = Object.values(person.keypoints).filter(Boolean);
  const [xs, ys] = [points.map((point) => point[0]), points.map((point) => point[1])];
  const [left, top] = [Math.min(...xs), Math.min(...ys)];
  return [left, top, Math.max(...xs) - left, Math.max(...ys) - top];
}
