// Videos of a group play in step, only while they are seen, and only if motion is welcome.
"use strict";
(() => {
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  const groups = [];
  let stopped = still.matches; // by the reader, for the whole page
  const parsed = new Promise((done) => {
    if (document.readyState === "loading") addEventListener("DOMContentLoaded", done, { once: true });
    else done();
  });

  // The videos stand as text at the end of the page, so that all else is there before them.
  // As a blob, unlike as a data: address, every browser can seek in them.
  async function addressOf(name) {
    if (!document.getElementById(name)) await parsed;
    const [head, text] = document.getElementById(name).textContent.trim().split(",");
    const binary = atob(text);
    const bytes = new Uint8Array(binary.length);
    for (let i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i);
    return URL.createObjectURL(new Blob([bytes], { type: head.slice(5).split(";")[0] }));
  }

  function once(video, event) {
    return new Promise((done, fail) => {
      video.addEventListener(event, done, { once: true });
      video.addEventListener("error", () => fail(video.error), { once: true });
    });
  }

  class Group {
    constructor(root) {
      this.root = root;
      this.videos = [...root.querySelectorAll("video")];
      this.times = (root.dataset.times || "").split(" ").filter(Boolean).map(Number);
      this.frames = Number(root.dataset.frames);
      this.fps = Number(root.dataset.fps);
      this.seen = new Set();
      this.held = stopped; // by the reader
      this.button = root.querySelector(".play");
      this.slider = root.querySelector("input");
      this.said = root.querySelector("output");
      const larger = root.querySelector(".larger");
      this.button.addEventListener("click", () => this.hold(!this.held));
      this.slider.addEventListener("input", () => this.scrub());
      root.querySelector("select").addEventListener("change", (event) => {
        for (const video of this.videos) video.defaultPlaybackRate = video.playbackRate = Number(event.target.value);
      });
      larger.addEventListener("click", () => {
        const large = root.classList.toggle("large");
        larger.setAttribute("aria-pressed", large);
        larger.textContent = large ? "Smaller" : "Larger";
      });
      for (const video of this.videos) {
        // The shorter ones wait on their last frame; then all start again together.
        video.addEventListener("ended", () => this.update());
        video.addEventListener("click", () => this.hold(!this.held));
      }
      this.show();
    }

    // The longest video is the clock of the group.
    get clock() {
      return this.videos.reduce((a, b) => ((b.duration || 0) > (a.duration || 0) ? b : a));
    }

    get wanted() {
      return this.seen.size > 0 && !this.held;
    }

    load() {
      this.loading ??= Promise.all(
        this.videos.map(async (video) => {
          const address = await addressOf(video.dataset.media);
          const ready = once(video, "loadeddata");
          video.preload = "auto";
          video.src = address;
          await ready;
        }),
      ).catch((error) => {
        this.said.textContent = `this browser cannot play it: ${error?.message || error}`;
        throw error;
      });
      return this.loading;
    }

    async update() {
      if (!this.wanted) {
        for (const video of this.videos) video.pause();
        this.show();
        return;
      }
      try {
        await this.load();
      } catch {
        return;
      }
      if (!this.wanted || this.videos.some((video) => !video.paused && !video.ended)) return;
      const now = this.clock.ended ? 0 : this.clock.currentTime;
      await this.seek(now);
      if (!this.wanted) return;
      await Promise.allSettled(this.videos.filter((v) => now < v.duration).map((v) => v.play()));
      this.tick();
    }

    async seek(time) {
      const moved = this.videos.filter((video) => Math.abs(video.currentTime - Math.min(time, video.duration)) > 0.002);
      await Promise.all(
        moved.map((video) => {
          const there = once(video, "seeked");
          video.currentTime = Math.min(time, video.duration);
          return there;
        }),
      );
    }

    hold(held) {
      this.held = held;
      if (!held && stopped) setStopped(false, this);
      this.show();
      this.update();
    }

    async scrub() {
      this.held = true;
      await this.load();
      for (const video of this.videos) video.pause();
      const time = (Number(this.slider.value) + 0.5) / this.fps;
      for (const video of this.videos) video.currentTime = Math.min(time, video.duration - 0.001);
      this.show();
    }

    tick() {
      if (this.ticking) return;
      this.ticking = true;
      const step = () => {
        this.show();
        const clock = this.clock;
        for (const video of this.videos)
          if (!video.ended && !video.paused && Math.abs(video.currentTime - clock.currentTime) > 0.2 && clock.currentTime < video.duration)
            video.currentTime = clock.currentTime;
        if (this.wanted) requestAnimationFrame(step);
        else this.ticking = false;
      };
      requestAnimationFrame(step);
    }

    show() {
      const frame = Math.min(Math.floor(this.clock.currentTime * this.fps + 0.01), this.frames - 1);
      const time = this.times.length ? `, t = ${this.times[frame].toFixed(2)}` : "";
      const word = this.held ? "Play" : "Pause";
      const text = `frame ${frame + 1} of ${this.frames}${time}`;
      if (this.button.textContent !== word) this.button.textContent = word;
      if (this.said.textContent === text) return;
      this.said.textContent = text;
      if (document.activeElement !== this.slider || !this.held) this.slider.value = frame;
      this.slider.setAttribute("aria-valuetext", text);
    }
  }

  const all = document.querySelector("#all");
  function setStopped(value, except) {
    stopped = value;
    all.textContent = stopped ? "Play all" : "Pause all";
    if (except) return;
    for (const group of groups) group.hold(stopped);
  }

  for (const root of document.querySelectorAll(".group[data-frames]")) groups.push(new Group(root));
  const groupOf = new Map(groups.flatMap((group) => group.videos.map((video) => [video, group])));
  const seen = new IntersectionObserver(
    (entries) => {
      const touched = new Set();
      for (const { target, isIntersecting } of entries) {
        const group = groupOf.get(target);
        if (isIntersecting) group.seen.add(target);
        else group.seen.delete(target);
        touched.add(group);
      }
      for (const group of touched) group.update();
    },
    { threshold: 0.05 },
  );
  for (const video of groupOf.keys()) seen.observe(video);
  if (all) {
    all.hidden = !groups.length;
    all.textContent = stopped ? "Play all" : "Pause all";
    all.addEventListener("click", () => setStopped(!stopped));
  }
  still.addEventListener("change", () => still.matches && setStopped(true));

  // The link of the section that is being read.
  const links = new Map([...document.querySelectorAll("nav a")].map((a) => [a.hash.slice(1), a]));
  const reading = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries) {
        if (!isIntersecting) continue;
        for (const link of links.values()) link.removeAttribute("aria-current");
        const link = links.get(target.id);
        link?.setAttribute("aria-current", "true");
        const list = link?.closest("ul");
        if (list) list.scrollLeft = link.offsetLeft - list.offsetLeft - list.clientWidth / 3;
      }
    },
    { rootMargin: "-30% 0px -65% 0px" },
  );
  for (const name of links.keys()) {
    const section = document.getElementById(name);
    if (section) reading.observe(section);
  }
})();
