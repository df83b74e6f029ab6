// The list of images: what is asked for, the rows, and which image comes before and after another.

import { fetchJson } from "./requests.js";

const ROWS = 50;
const $ = (id) => document.getElementById(id);

/** How many of each error, as small colored counts. */
export function chips(errors, colors) {
  const line = document.createElement("small");
  line.className = "chips";
  for (const [name, color] of Object.entries(colors)) {
    if (name === "good" || !errors[name]) continue;
    const [chip, dot] = ["span", "i"].map((tag) => document.createElement(tag));
    dot.style.background = color;
    chip.append(dot, `${errors[name]} ${name}`);
    line.append(chip);
  }
  return line;
}

export class ImageList {
  /** open: called with the id of an image that was chosen. */
  constructor(dataset, open) {
    this.dataset = dataset;
    this.open = open;
    this.part = { matching: 0, offset: 0, rows: [] };
    this.current = null;
    $("selection").addEventListener("submit", (event) => event.preventDefault());
    $("selection").addEventListener("input", (event) => this.restart(event.target.name === "order"));
    $("earlier").addEventListener("click", () => this.load({ offset: Math.max(this.part.offset - ROWS, 0) }));
    $("later").addEventListener("click", () => this.load({ offset: this.part.offset + ROWS }));
  }

  async load(where) {
    const given = [...new FormData($("selection"))].filter(([, value]) => value !== "");
    const query = new URLSearchParams([...given, ["limit", ROWS], ...Object.entries(where)]);
    const wanted = (this.wanted = {}); // answers may overtake each other
    const part = await fetchJson(`api/images?${query}`);
    if (wanted !== this.wanted) return;
    this.part = part;
    this.show();
  }

  /** Show the part with the current image; in another order, or where it is listed no more, open the first one. */
  async restart(reordered) {
    await this.load(reordered || this.current === null ? {} : { around: this.current });
    if ((reordered || this.place() < 0) && this.part.rows.length) this.open(this.part.rows[0].image_id);
  }

  /** Load the rows once more: their figures may have changed. */
  async refresh() {
    await this.load({ offset: this.part.offset });
  }

  place() {
    return this.part.rows.findIndex((row) => row.image_id === this.current);
  }

  /** Open the next image, or with -1 the previous one. */
  async step(by) {
    if (this.place() < 0) await this.load({ around: this.current });
    let place = this.place() < 0 ? 0 : this.place() + by;
    const { offset, matching } = this.part;
    if (offset + place < 0 || offset + place >= matching) return;
    if (place < 0 || place >= this.part.rows.length) {
      await this.load({ offset: Math.max(offset + Math.sign(by) * ROWS, 0) });
      place = by > 0 ? 0 : this.part.rows.length - 1;
    }
    this.open(this.part.rows[place].image_id);
  }

  /** Mark an image as the current one. */
  mark(imageId) {
    this.current = imageId;
    for (const button of $("list").querySelectorAll("button")) {
      button.toggleAttribute("aria-current", Number(button.dataset.id) === imageId);
    }
  }

  /** Scroll to the current image. */
  reveal() {
    $("list").querySelector("[aria-current]")?.scrollIntoView({ block: "nearest" });
  }

  show() {
    const { matching, offset, rows } = this.part;
    const all = this.dataset.images;
    const part = matching > rows.length ? `, ${offset + 1}–${offset + rows.length} listed` : "";
    $("count").textContent = `${matching === all ? "" : `${matching} of `}${all} image${all === 1 ? "" : "s"}${part}`;
    $("earlier").disabled = offset === 0;
    $("later").disabled = offset + rows.length >= matching;
    const focused = $("list").contains(document.activeElement) ? document.activeElement.dataset.id : null;
    $("list").replaceChildren(...rows.map((row) => this.row(row)));
    this.mark(this.current);
    if (focused) $("list").querySelector(`[data-id="${focused}"]`)?.focus({ preventScroll: true });
  }

  row(image) {
    const [item, button, name, score, about] = ["li", "button", "b", "span", "small"].map((tag) => document.createElement(tag));
    button.type = "button";
    button.dataset.id = image.image_id;
    name.textContent = name.title = image.name;
    if (image.oks !== null) score.textContent = `OKS ${image.oks.toFixed(2)}`;
    about.textContent = `${image.people} ${image.people === 1 ? "person" : "people"}, crowd index ${image.crowd_index.toFixed(2)}`;
    button.append(name, score, about);
    if (image.problem) {
      about.className = "bad";
      about.textContent = image.problem;
    } else if (image.predicted) button.append(chips(image.errors, this.dataset.errors));
    button.addEventListener("click", () => this.open(image.image_id));
    item.append(button);
    return item;
  }
}
