//! A scenario that is met many times over: a few times whenever the tests run, and as often as its table says in the
//! campaign (`tests/campaign`), which counts, goes on where it was interrupted, and leaves a row for the README.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Rounds of one scenario, and what they have shown so far.
pub struct Campaign {
    name: &'static str,
    rounds: u64,
    /// Rounds that have passed.
    done: u64,
    seed: u64,
    /// In the order in which they were first counted.
    figures: Vec<(String, u64)>,
    began: Instant,
    earlier: Duration,
    /// Where it is kept between two rounds.
    file: Option<PathBuf>,
    in_round: bool,
}

impl Campaign {
    /// A few rounds, as part of every test run. The seed is a new one each time; it is printed, and
    /// `RALIO_RELAY_TEST_SEED` brings it back.
    pub fn brief(name: &'static str, rounds: u64) -> Self {
        let seed = std::env::var("RALIO_RELAY_TEST_SEED").ok();
        let seed =
            seed.map_or_else(|| fastrand::u64(..), |seed| seed.parse().expect("RALIO_RELAY_TEST_SEED is a number"));
        eprintln!("{name}: RALIO_RELAY_TEST_SEED={seed}");
        let (began, earlier) = (Instant::now(), Duration::ZERO);
        Self { name, rounds, done: 0, seed, figures: Vec::new(), began, earlier, file: None, in_round: false }
    }

    /// Every round, as part of `tests/campaign`, which names the directory and the seed. Goes on after the last round that
    /// an earlier, interrupted run has finished.
    pub fn whole(name: &'static str, rounds: u64) -> Self {
        let directory = std::env::var_os("RALIO_RELAY_CAMPAIGN").expect("run tests/campaign");
        let mut campaign = Self::brief(name, rounds);
        let file = PathBuf::from(directory).join(format!("{}.json", name.replace(|c: char| !c.is_alphanumeric(), "-")));
        if let Ok(text) = std::fs::read_to_string(&file) {
            campaign.resume(&serde_json::from_str(&text).unwrap());
        }
        campaign.file = Some(file);
        campaign
    }

    fn resume(&mut self, kept: &Value) {
        self.done = kept["done"].as_u64().unwrap();
        self.seed = kept["seed"].as_u64().unwrap();
        self.earlier = Duration::from_secs_f64(kept["seconds"].as_f64().unwrap());
        let figures = kept["figures"].as_array().unwrap().iter();
        self.figures = figures.map(|f| (f[0].as_str().unwrap().to_owned(), f[1].as_u64().unwrap())).collect();
    }

    /// Begins the next round, with randomness that is the same each time for this seed and round; `None` when all have
    /// passed. A round passes when the next one is asked for.
    pub fn round(&mut self) -> Option<fastrand::Rng> {
        if std::mem::take(&mut self.in_round) {
            self.done += 1;
            self.keep();
            println!("{}: {}/{}: {}", self.name, self.done, self.rounds, self.said());
        }
        self.in_round = self.done < self.rounds;
        self.in_round.then(|| fastrand::Rng::with_seed(self.seed.wrapping_add(self.done)))
    }

    /// The number of the round that goes on, from 1.
    pub fn number(&self) -> u64 {
        self.done + 1
    }

    /// Adds to a figure of the result's row.
    pub fn count(&mut self, what: &str, more: u64) {
        *self.figure(what) += more;
    }

    /// Keeps the highest value of a figure.
    pub fn highest(&mut self, what: &str, value: u64) {
        let figure = self.figure(what);
        *figure = value.max(*figure);
    }

    fn figure(&mut self, what: &str) -> &mut u64 {
        let at = self.figures.iter().position(|(name, _)| name == what).unwrap_or_else(|| {
            self.figures.push((what.to_owned(), 0));
            self.figures.len() - 1
        });
        &mut self.figures[at].1
    }

    fn said(&self) -> String {
        self.figures.iter().map(|(what, value)| format!("{what} {value}")).collect::<Vec<_>>().join("; ")
    }

    fn keep(&self) {
        let Some(file) = &self.file else { return };
        let seconds = (self.earlier + self.began.elapsed()).as_secs_f64();
        let row = format!("| {} | {} | {} | {seconds:.0} |", self.name, self.done, self.said());
        let kept = json!({"done": self.done, "rounds": self.rounds, "seed": self.seed, "seconds": seconds, "figures": self.figures, "row": row});
        // Whole or not at all, for the campaign may be interrupted at any time.
        let draft = file.with_extension("draft");
        std::fs::write(&draft, kept.to_string()).unwrap();
        std::fs::rename(&draft, file).unwrap();
    }
}
