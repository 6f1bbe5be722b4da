// Areas and speed beside the picture, asked for once a second.

const $ = (id) => document.getElementById(id);

function row({ name, color, share }) {
  const chip = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const square = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  for (const [key, value] of Object.entries({ width: "100%", height: "100%", rx: 3, fill: `rgb(${color})` })) square.setAttribute(key, value);
  chip.append(square);
  const [head, area] = [document.createElement("th"), document.createElement("td")];
  head.scope = "row";
  head.append(chip, name);
  area.textContent = `${(100 * share).toFixed(1)} %`;
  const made = document.createElement("tr");
  made.append(head, area);
  return made;
}

async function ask() {
  try {
    const { line, classes } = await (await fetch("now.json", { cache: "no-store" })).json();
    $("status").textContent = line;
    $("classes").replaceChildren(...classes.map(row));
    setTimeout(ask, 1000);
  } catch {
    $("status").textContent = "The stream has ended.";
  }
}
ask();
