//! Counts the words of any text files with one object a word, and checks the result against a
//! plain count of the same files.

mod cluster;
mod http;
mod text;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, ensure};
use clap::Parser;
use comfy_table::{CellAlignment, Table, presets};
use futures::stream::{self, StreamExt, TryStreamExt};
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::Url;

use cluster::Cluster;
use text::Counts;

/// Differing words that are shown one by one.
const DIFFERENCES_SHOWN: usize = 10;

/// Counts words with one object a word.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Text files, or folders with text files in them
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// HTTP address of a node of a running cluster, such as `http://127.0.0.1:7480`; may be given
    /// several times. Without it the program starts a cluster of its own
    #[arg(long, value_name = "URL", value_parser = http::parse_address)]
    address: Vec<Url>,
    /// How many of the most frequent words to show
    #[arg(long, default_value_t = 15)]
    top: usize,
    /// How many calls may be under way at once
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..))]
    concurrency: u16,
}

#[allow(clippy::print_stdout, reason = "a program for a terminal")]
#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    let files = text::files(&args.paths)?;
    ensure!(!files.is_empty(), "there is no file to read");
    let mut plain = Counts::new();
    let mut batches = Vec::new();
    let mut texts = 0_usize;
    for file in &files {
        let Some(counts) = text::count_file(file)? else {
            continue;
        };
        texts += 1;
        for (word, n) in &counts {
            *plain.entry(word.clone()).or_default() += n;
        }
        batches.extend(counts);
    }
    let words: u64 = plain.values().sum();
    ensure!(texts > 0, "none of these files holds text");
    let (others, distinct) = (files.len() - texts, plain.len());
    let passed_over = match others {
        0 => String::new(),
        _ => format!("; {others} more hold no text"),
    };
    println!("{words} words, {distinct} of them different, in {texts} files{passed_over}");

    // A running cluster may hold counts of earlier runs, so each run has objects of its own.
    let run = uuid::Uuid::new_v4().simple().to_string();
    let cluster = Cluster::reach(args.address, &run[..8]).await?;
    feed(&cluster, &batches, args.concurrency.into()).await?;
    let counted = read_back(&cluster, &plain, args.concurrency.into()).await?;
    cluster.leave().await;

    println!("{}", most_frequent(&counted, args.top));
    Ok(report(&plain, &counted))
}

/// Adds each file's count of each of its words to the word's object.
async fn feed(cluster: &Cluster, batches: &[(String, u64)], at_once: usize) -> anyhow::Result<()> {
    let progress = progress("counting", batches.len());
    stream::iter(batches)
        .map(|(word, n)| async move {
            let added = cluster.add(word, *n).await;
            added
                .map(drop)
                .with_context(|| format!("cannot count `{word}`"))
        })
        .buffer_unordered(at_once)
        .try_for_each(|()| {
            progress.inc(1);
            std::future::ready(Ok(()))
        })
        .await
}

/// Asks the object of each word for its count.
async fn read_back(cluster: &Cluster, words: &Counts, at_once: usize) -> anyhow::Result<Counts> {
    let progress = progress("reading back", words.len());
    stream::iter(words.keys())
        .map(|word| async move {
            let count = cluster.count(word).await;
            let count = count.with_context(|| format!("cannot read the count of `{word}`"))?;
            anyhow::Ok((word.clone(), count))
        })
        .buffer_unordered(at_once)
        .inspect_ok(|_| progress.inc(1))
        .try_collect()
        .await
}

/// Returns a progress bar, which shows only on a terminal.
fn progress(what: &'static str, len: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg:>12} {wide_bar} {pos}/{len} {per_sec}");
    let len = u64::try_from(len).expect("a length fits");
    ProgressBar::new(len)
        .with_style(style.expect("a good template"))
        .with_message(what)
}

fn most_frequent(counts: &Counts, top: usize) -> Table {
    let mut ranked: Vec<_> = counts.iter().collect();
    ranked.sort_by_key(|(word, count)| (std::cmp::Reverse(**count), *word));
    let mut table = Table::new();
    table.load_preset(presets::UTF8_FULL_CONDENSED);
    table.set_header(["word", "count"]);
    table.add_rows(
        ranked
            .into_iter()
            .take(top)
            .map(|(word, n)| [word.clone(), n.to_string()]),
    );
    if let Some(column) = table.column_mut(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// Says whether the objects counted what a plain count of the files gives.
#[allow(clippy::print_stdout, reason = "a program for a terminal")]
fn report(plain: &Counts, counted: &Counts) -> ExitCode {
    let differing = || {
        plain
            .iter()
            .filter(|(word, n)| counted.get(*word) != Some(*n))
    };
    for (word, expected) in differing().take(DIFFERENCES_SHOWN) {
        let counted = counted.get(word).copied().unwrap_or_default();
        println!("WRONG: `{word}` occurs {expected} times, but its object says {counted}");
    }
    match differing().count() {
        0 => {
            println!("every count is right: compared with a plain count of the same files");
            ExitCode::SUCCESS
        }
        wrong => {
            println!("{wrong} of {} counts are wrong", plain.len());
            ExitCode::FAILURE
        }
    }
}
