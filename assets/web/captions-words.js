// What the captioning tab says of a job, of how far it is, and of files that were left out. Loaded first of its scripts.
(() => {
  "use strict";
  const NAMES = 3, REASONS = 4; // that are told

  const count = (number, one) => `${number.toLocaleString("en")} ${one}${number === 1 ? "" : "s"}`;
  const seconds = s => s < 90 ? `${Math.max(1, Math.round(s))} s` : s < 5400 ? `${Math.round(s / 60)} min` : `${Math.round(s / 3600)} h`;

  function named(names) {
    const more = names.length - NAMES, shown = names.slice(0, NAMES).map(name => `“${name}”`).join(", ");
    return more > 0 ? `${shown} and ${more.toLocaleString("en")} more` : shown;
  }
  // `left`: pairs of a file's name and why it is not among the pictures.
  function leftOut(left) {
    const names = new Map();
    for (const [name, why] of left) {
      if (!names.has(why)) names.set(why, []);
      names.get(why).push(name);
    }
    const reasons = [...names], rest = reasons.slice(REASONS).flatMap(([, some]) => some);
    const isNamed = ([why, some]) => some.length === 1 && why.includes(`“${some[0]}”`);
    const told = reasons.slice(0, REASONS).map(one => isNamed(one) ? one[0] : `Left out: ${named(one[1])}. ${one[0]}`);
    return [...told, ...(rest.length ? [`Left out too: ${named(rest)}.`] : [])].join(" ");
  }

  const drafted = job => [count(job.counts.total, "picture"),
    ...(job.cost?.inAll ? [`all of them would cost about ${job.cost.inAll}`] : [])].join(" · ");
  function far(job) {
    const {counts} = job, parts = [];
    const made = counts.done + counts.skipped;
    if (job.running) {
      parts.push(`${made + counts.failed} of ${counts.total}`);
      if (counts.failed) parts.push(`${counts.failed} failed`);
      if (job.perMinute) parts.push(`${Math.round(job.perMinute)} a minute`);
      if (job.leftSeconds !== null) parts.push(`about ${seconds(job.leftSeconds)} left`);
      if (job.cost) parts.push(`cost ${job.cost.soFar}${job.cost.inAll ? ` of about ${job.cost.inAll}` : ""}`);
    } else {
      parts.push(count(made, "caption"));
      if (counts.failed) parts.push(`${counts.failed} failed`);
      if (counts.pending) parts.push(`${counts.pending} to do`);
      if (job.cost && made) parts.push(`cost about ${job.cost.soFar}`);
    }
    return parts.join(" · ");
  }
  const TITLES = {
    running: "Captioning", paused: "Paused", cancelled: "Cancelled", done: "Done", draft: "Pictures to caption",
  };
  function heading(job) { // a title, and beside it how far the job is
    const {counts} = job, state = job.running ? "running" : job.state;
    const title = state === "done" && counts.failed === counts.total ? "Nothing could be captioned" : TITLES[state];
    return {title, words: state !== "draft" ? far(job) : counts.total ? drafted(job) : ""};
  }

  Object.assign(window.sightline, {captions: {count, leftOut, heading}});
})();
