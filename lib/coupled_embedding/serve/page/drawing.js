// Poses on a canvas, in the manner of coupled_embedding.visualize.people.

const INK = [20, 20, 24];
const WHITE = [255, 255, 255];
const FAINTEST = 0.4; // the opacity of joints without confidence
const SURE = 0.5; // the score from which on a joint is opaque
const LEVELS = 5; // of opacity
const HIDDEN = 1; // the label of an annotated joint that is out of sight

const mixed = (color, other, share) => color.map((value, i) => (1 - share) * value + share * other[i]);
const css = (color) => `rgb(${color.map(Math.round).join(" ")})`;
const clip = (value, low, high) => Math.min(Math.max(value, low), high);
const parsed = (hex) => [1, 3, 5].map((start) => parseInt(hex.slice(start, start + 2), 16));

/** Return the color of a person at a place among the best-first people of an image. */
export const personColor = (model, number) => model.person_colors[number % model.person_colors.length];

/** Return what is left of an answer's predictions: people and joints with at least these scores. */
export function chosen(predictions, minPerson, minJoint) {
  const keep = (point) => (point && point[2] >= minJoint ? point : null);
  return predictions
    .map((person, number) => ({
      ...person,
      number,
      keypoints: Object.fromEntries(Object.entries(person.keypoints).map(([name, point]) => [name, keep(point)])),
    }))
    .filter((person) => person.score >= minPerson && Object.values(person.keypoints).some(Boolean));
}

/**
 * Draw people on a canvas, large ones first.
 *
 * context: its unit is a pixel of the image; unit: image pixels per pixel of the canvas, so that no line is finer;
 * size: [width, height] of the image; emphasized: number of a person whom the others fade beside, or null. A person may
 * have a color, and be annotated: points are x, y, label then, and hidden joints (label 1) hollow.
 */
export function drawPeople(context, people, model, { size, unit, boxes, emphasized }) {
  const all = people.map((person) => ({ person, points: model.joints.map((name) => person.keypoints[name]) }));
  for (const entry of all) entry.size = diagonal(entry.points.filter(Boolean));
  all.sort((a, b) => b.size - a.size);
  for (const { person, points, size: extent } of all) {
    const pen = penFor(extent, Math.max(...size), unit);
    const strength = emphasized === null || emphasized === person.number ? 1 : 0.2;
    const color = parsed(person.color ?? personColor(model, person.number));
    if (boxes && person.bbox) drawBox(context, points.filter(Boolean), color, pen, strength);
    drawPerson(context, points, jointColors(model, color), model.skeleton, pen, strength, person.annotated);
  }
  context.globalAlpha = 1;
}

function bounds(points) {
  const [xs, ys] = [points.map((p) => p[0]), points.map((p) => p[1])];
  return [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)];
}

function diagonal(points) {
  const [left, top, right, bottom] = bounds(points);
  return Math.hypot(right - left, bottom - top);
}

function penFor(extent, longest, unit) {
  const finest = Math.max(1.25 * unit, 0.0006 * longest);
  const width = clip(0.0145 * extent, finest, Math.max(0.008 * longest, finest));
  const growth = clip(extent / (50 * finest), 0, 1);
  return { width, radius: width * (0.55 + 0.55 * growth), outline: clip(0.3 * width, 0.35 * unit, 3 * unit + 1) };
}

function jointColors(model, color) {
  const colors = model.joints.map(() => mixed(color, INK, 0.2));
  for (const [left, right] of model.flip_pairs) {
    colors[left] = color;
    colors[right] = mixed(color, INK, 0.48);
  }
  return colors;
}

function opacity(point) {
  return FAINTEST + (1 - FAINTEST) * (Math.round(clip(point[2] / SURE, 0, 1) * (LEVELS - 1)) / (LEVELS - 1));
}

function drawPerson(context, points, colors, skeleton, pen, strength, annotated = false) {
  const limbs = skeleton
    .filter(([first, second]) => points[first] && points[second])
    .map(([first, second]) => ({
      start: points[first],
      end: points[second],
      color: mixed(colors[first], colors[second], 0.5),
      alpha: Math.min(opacity(points[first]), opacity(points[second])),
    }));
  const joints = points.map((point, i) => ({ point, color: colors[i] })).filter(({ point }) => point);
  // faint ones first, so that sure ones are seen whole
  for (const alpha of [...new Set(joints.map(({ point }) => opacity(point)))].sort()) {
    context.globalAlpha = alpha * strength;
    const level = limbs.filter((limb) => limb.alpha === alpha);
    for (const { start, end } of level) line(context, start, end, INK, pen.width + 2 * pen.outline);
    for (const { start, end, color } of level) line(context, start, end, color, pen.width);
    for (const { point, color } of joints.filter((joint) => opacity(joint.point) === alpha)) {
      disc(context, point, INK, pen.radius + pen.outline);
      disc(context, point, annotated && point[2] === HIDDEN ? INK : mixed(color, WHITE, 0.3), pen.radius);
      if (annotated && point[2] === HIDDEN) ring(context, point, color, pen.radius, 0.5 * pen.width);
    }
  }
}

function drawBox(context, points, color, pen, strength) {
  const margin = 2 * (1.4 * pen.radius + pen.outline);
  const [left, top, right, bottom] = bounds(points);
  const box = [left - margin, top - margin, right - left + 2 * margin, bottom - top + 2 * margin];
  context.globalAlpha = strength;
  for (const [shade, width] of [[INK, 0.5 * pen.width + 2 * pen.outline], [color, 0.5 * pen.width]]) {
    context.strokeStyle = css(shade);
    context.lineWidth = width;
    context.strokeRect(...box);
  }
}

function line(context, start, end, color, width) {
  context.beginPath();
  context.moveTo(start[0], start[1]);
  context.lineTo(end[0], end[1]);
  context.strokeStyle = css(color);
  context.lineWidth = width;
  context.lineCap = "round";
  context.stroke();
}

function disc(context, point, color, radius) {
  context.beginPath();
  context.arc(point[0], point[1], radius, 0, 2 * Math.PI);
  context.fillStyle = css(color);
  context.fill();
}

function ring(context, point, color, radius, width) {
  context.beginPath();
  context.arc(point[0], point[1], radius, 0, 2 * Math.PI);
  context.strokeStyle = css(color);
  context.lineWidth = width;
  context.stroke();
}
