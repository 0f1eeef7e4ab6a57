/* Filter, sorting, theme. The page is complete without it. */
(function () {
  "use strict";

  var root = document.documentElement;
  var key = "kubegpu-report-theme";

  function each(list, action) {
    Array.prototype.forEach.call(list, action);
  }

  function remembered() {
    try {
      return localStorage.getItem(key);
    } catch (error) {
      return null; // a browser that stores nothing for local files
    }
  }

  function theme() {
    var dark = window.matchMedia("(prefers-color-scheme: dark)").matches;
    return root.getAttribute("data-theme") || (dark ? "dark" : "light");
  }

  function label() {
    button.textContent = theme() === "dark" ? "Light" : "Dark";
    button.setAttribute("aria-label", button.textContent + " theme");
  }

  var button = document.getElementById("theme");
  if (remembered() === "dark" || remembered() === "light") {
    root.setAttribute("data-theme", remembered());
  }
  label();
  button.addEventListener("click", function () {
    var next = theme() === "dark" ? "light" : "dark";
    root.setAttribute("data-theme", next);
    try {
      localStorage.setItem(key, next);
    } catch (error) {
      // for this visit only
    }
    label();
  });
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", label);

  function value(row, column) {
    var cell = row.cells[column];
    var given = cell.getAttribute("data-sort");
    return given === null ? cell.textContent.trim() : given;
  }

  var order = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });

  function compare(one, other) {
    var a = Number(one);
    var b = Number(other);
    return one !== "" && other !== "" && !isNaN(a) && !isNaN(b) ? a - b : order.compare(one, other);
  }

  function sort(table, column, descending) {
    var body = table.tBodies[0];
    var rows = Array.prototype.slice.call(body.rows).map(function (row, place) {
      return { row: row, value: value(row, column), place: place };
    });
    rows.sort(function (one, other) {
      var result = compare(one.value, other.value);
      return (descending ? -result : result) || one.place - other.place;
    });
    rows.forEach(function (item) {
      body.appendChild(item.row);
    });
  }

  each(document.querySelectorAll("table.list"), function (table) {
    var headings = table.tHead.rows[0].cells;
    if (table.tBodies[0].rows.length < 2) {
      return;
    }
    each(headings, function (heading, column) {
      var inner = document.createElement("button");
      inner.type = "button";
      inner.textContent = heading.textContent;
      heading.textContent = "";
      heading.appendChild(inner);
      inner.addEventListener("click", function () {
        var descending = heading.getAttribute("aria-sort") === "ascending";
        each(headings, function (other) {
          other.removeAttribute("aria-sort");
        });
        heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
        sort(table, column, descending);
      });
    });
  });

  var box = document.getElementById("filter");
  var matches = document.getElementById("matches");
  var candidates = [];
  each(document.querySelectorAll("main > section > .scroll > table.list > tbody > tr, main details"), function (item) {
    var titles = "";
    each(item.querySelectorAll("[title]"), function (inner) {
      titles += " " + inner.getAttribute("title");
    });
    candidates.push({ item: item, text: (item.textContent + titles).toLowerCase() });
  });

  function filter() {
    var words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
    var nodes = 0;
    candidates.forEach(function (candidate) {
      var shown = words.every(function (word) {
        return candidate.text.indexOf(word) >= 0;
      });
      candidate.item.toggleAttribute("data-out", !shown);
      nodes += shown && candidate.item.localName === "details" ? 1 : 0;
    });
    matches.textContent = words.length ? nodes + (nodes === 1 ? " node" : " nodes") : "";
  }

  box.addEventListener("input", filter);
  document.addEventListener("keydown", function (event) {
    if (event.key === "/" && document.activeElement !== box && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      box.focus();
    } else if (event.key === "Escape" && document.activeElement === box) {
      box.value = "";
      filter();
    }
  });

  function open() {
    var target = /^#node-\d+$/.test(location.hash) && document.getElementById(location.hash.slice(1));
    if (target) {
      target.open = true;
      target.scrollIntoView();
    }
  }

  window.addEventListener("hashchange", open);
  open();

  var closed = [];
  window.addEventListener("beforeprint", function () {
    closed = Array.prototype.slice.call(document.querySelectorAll("details:not([open])"));
    closed.forEach(function (item) {
      item.open = true;
    });
  });
  window.addEventListener("afterprint", function () {
    closed.forEach(function (item) {
      item.open = false;
    });
  });

  document.querySelector(".tools").hidden = false;
})();
