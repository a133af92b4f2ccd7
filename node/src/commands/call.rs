//! `call`: one method of one object.

use serde_json::{Map, Value};

use crate::args::CallArgs;
use crate::client::{AskError, Client};
use crate::exit::Exit;
use crate::output;

/// Calls a method and prints its value as JSON.
pub(crate) async fn call(args: &CallArgs) -> Result<Exit, AskError> {
    let client = Client::new(&args.ask)?;
    let arguments = arguments(&args.arguments)?;
    let path = ["v1", "objects", &args.object_type, &args.id, &args.method];
    let value = client.call(&path, arguments, args.timeout).await?;
    output::json(&value);
    Ok(Exit::Done)
}

/// Makes the body of a call: JSON as it is, or an object of the pairs.
fn arguments(texts: &[String]) -> Result<String, AskError> {
    if let [text] = texts
        && text.trim_start().starts_with(['{', '['])
    {
        let checked: Result<Value, _> = serde_json::from_str(text);
        return checked
            .map(|_| text.clone())
            .map_err(|_| AskError::Argument(text.clone()));
    }
    let pair = |text: &String| {
        let (name, value) = text.split_once('=').filter(|(name, _)| !name.is_empty())?;
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.into()));
        Some((name.to_owned(), value))
    };
    let pairs = texts.iter().map(|text| {
        let argument = || AskError::Argument(text.clone());
        pair(text).ok_or_else(argument)
    });
    let pairs: Map<_, _> = pairs.collect::<Result<_, _>>()?;
    if pairs.is_empty() {
        Ok(String::new())
    } else {
        Ok(Value::Object(pairs).to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(texts: &[&str], expected: &str) {
        let texts: Vec<_> = texts.iter().map(ToString::to_string).collect();
        assert_eq!(arguments(&texts).expect("good arguments"), expected);
    }

    #[test]
    fn pairs_become_an_object_and_values_that_are_not_json_become_text() {
        check(&["to=bob", "amount=5"], r#"{"amount":5,"to":"bob"}"#);
        check(&["text=a=b", "empty="], r#"{"empty":"","text":"a=b"}"#);
    }

    #[test]
    fn json_goes_through_as_it_is() {
        check(&[r#"{"n": 5}"#], r#"{"n": 5}"#);
        check(&["[1, 2]"], "[1, 2]");
        check(&[], "");
    }

    #[test]
    fn anything_else_is_refused_before_it_is_sent() {
        for text in ["5", "=5", "{n: 5}"] {
            assert!(arguments(&[text.to_owned()]).is_err(), "{text}");
        }
    }
}
