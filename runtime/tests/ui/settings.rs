#![allow(unused, reason = "only the errors count")]

use steading::Object;

#[derive(Default, Object)]
#[object(idel = "5m")]
struct Misspelt;

#[derive(Default, Object)]
#[object(idle = "5 minutes")]
struct Wordy;

#[derive(Default, Object)]
#[object(idle = 5)]
struct Unitless;

#[derive(Default, Object)]
#[object(mailbox = 0)]
struct NoMailbox;

#[derive(Default, Object)]
#[object(name = "a/b")]
struct Slash;

#[derive(Default, Object)]
#[object(auto_start = "everywhere")]
struct Everywhere;

#[derive(Default, Object)]
#[object(save_every = "1s")]
struct NotStored;

#[derive(Default, Object)]
#[object(idle = "1m", idle = "2m")]
struct Twice;

fn main() {}
