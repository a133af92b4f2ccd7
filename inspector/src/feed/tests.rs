//! What pages are told, in which order, and what becomes of slow ones.

use super::*;
use crate::testing::{owned_by, view};
use futures::FutureExt;

async fn next(stream: &mut (impl Stream<Item = Arc<Message>> + Unpin)) -> Arc<Message> {
    stream.next().await.expect("the stream goes on")
}

fn kinds(messages: &[Arc<Message>]) -> Vec<&'static str> {
    messages.iter().map(|message| message.kind).collect()
}

#[tokio::test]
async fn i_5_every_page_gets_the_whole_first_and_then_what_changes() {
    let feed = Feed::new();
    feed.show(&view(1), 1);
    feed.tell("figures", "{}".into());
    let mut pages = Vec::new();
    for _ in 0..3 {
        pages.push(Box::pin(feed.join(None, 1).expect("there is room")));
    }
    feed.show(&owned_by(view(1), 5, "b", 2), 2);
    for page in &mut pages {
        let told = [next(page).await, next(page).await, next(page).await];
        assert_eq!(kinds(&told), ["snapshot", "figures", "delta"]);
        assert!(
            told[2].data.contains(r#""shards":[[5,"b","a",0,0]]"#),
            "{}",
            told[2].data
        );
    }
}

#[tokio::test]
async fn what_has_not_changed_is_told_once() {
    let feed = Feed::new();
    feed.tell("health", "[]".into());
    let mut page = Box::pin(feed.join(None, 1).expect("there is room"));
    for data in ["[]", "[1]", "[1]", "[]"] {
        feed.tell("health", data.into());
    }
    for data in ["[]", "[1]", "[]"] {
        assert_eq!(&*next(&mut page).await.data, data);
    }
    assert!(page.next().now_or_never().is_none());
}

#[tokio::test]
async fn a_page_that_comes_back_gets_only_what_it_missed() {
    let feed = Feed::new();
    feed.show(&view(1), 1);
    feed.show(&owned_by(view(1), 5, "b", 2), 2);
    let have = feed.inner.lock().place;
    feed.show(&owned_by(owned_by(view(1), 5, "b", 2), 6, "b", 3), 3);
    let mut page = Box::pin(feed.join(Some(have), 4).expect("there is room"));
    let message = next(&mut page).await;
    assert_eq!(message.kind, "delta");
    assert!(message.data.contains(r#""shards":[[6,"#) && !message.data.contains("[5,"));
}

#[tokio::test]
async fn a_page_with_a_place_that_is_not_known_begins_anew() {
    let feed = Feed::new();
    feed.show(&view(7), 1);
    let elsewhere = Place {
        revision: 7,
        number: 99,
    };
    let mut page = Box::pin(feed.join(Some(elsewhere), 2).expect("there is room"));
    assert_eq!(next(&mut page).await.kind, "snapshot");
}

#[tokio::test]
async fn n_14_a_slow_page_is_let_go_and_what_it_missed_is_counted_exactly() {
    let feed = Feed::new();
    feed.show(&view(1), 1);
    let slow = feed.join(None, 1).expect("there is room");
    let quick = feed.join(None, 1).expect("there is room");
    let mut quick = Box::pin(quick);
    let sent = MESSAGES_WAITING_MAX as u64 + 44;
    for number in 0..sent {
        feed.mention("event", number.to_string());
        while next(&mut quick).await.kind != "event" {}
    }
    let told: Vec<_> = slow.collect().await;
    assert_eq!(
        kinds(&told),
        ["snapshot"],
        "the stream ended after what it began with"
    );
    let counts = feed.counts();
    assert_eq!((counts.pages, counts.pages_dropped), (1, 1));
    assert_eq!(counts.messages_dropped, sent);
}

#[tokio::test]
async fn pages_are_bounded_and_make_room_when_they_go() {
    let feed = Feed::new();
    let mut pages: Vec<_> = (0..PAGES_MAX)
        .map(|_| feed.join(None, 1).expect("there is room"))
        .collect();
    assert!(feed.join(None, 1).is_err());
    pages.pop();
    assert!(feed.join(None, 1).is_ok());
}

#[test]
fn places_are_written_and_read() {
    let place = Place {
        revision: 12,
        number: 3,
    };
    assert_eq!(place.to_string().parse(), Ok(place));
    for bad in ["", "12", "a.b", "1.2.3"] {
        assert!(bad.parse::<Place>().is_err(), "{bad}");
    }
}
