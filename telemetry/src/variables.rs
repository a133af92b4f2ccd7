//! Variables of the OpenTelemetry standard, and what is wrong with their values.

use std::time::Duration;

use steading_settings::SettingsError;

/// Looks variables up; an empty one counts as not set, as the standard says.
pub(crate) struct Variables<'a>(pub(crate) &'a dyn Fn(&str) -> Option<String>);

impl Variables<'_> {
    /// Returns the value, if it is set.
    pub(crate) fn text(&self, name: &'static str) -> Option<String> {
        let text = (self.0)(name)?;
        let text = text.trim();
        (!text.is_empty()).then(|| text.to_owned())
    }

    /// Reads the value; `None` if it is not set.
    pub(crate) fn read<T>(
        &self,
        name: &'static str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, SettingsError> {
        let text = self.text(name);
        let value = text.map(|text| read(&text).map_err(|why| refused(name, why)));
        value.transpose()
    }

    /// Reads the first of several variables that is set, the stronger first.
    pub(crate) fn first<T>(
        &self,
        names: [&'static str; 2],
        read: impl Fn(&'static str, &str) -> Result<T, String>,
    ) -> Result<Option<T>, SettingsError> {
        for name in names {
            if let Some(value) = self.read(name, |text| read(name, text))? {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    /// Reads a number of milliseconds above zero.
    pub(crate) fn millis(
        &self,
        names: [&'static str; 2],
        default: Duration,
    ) -> Result<Duration, SettingsError> {
        let millis = self.first(names, |_, text| positive(text, "milliseconds"))?;
        Ok(millis.map_or(default, |millis| Duration::from_millis(millis as u64)))
    }

    /// Reads a count above zero and up to `max`.
    pub(crate) fn count(
        &self,
        name: &'static str,
        default: usize,
        max: usize,
    ) -> Result<usize, SettingsError> {
        let count = self.read(name, |text| match positive(text, "items")? {
            count if count <= max => Ok(count),
            _ => Err(format!("at most {max} are allowed")),
        })?;
        Ok(count.unwrap_or(default))
    }
}

pub(crate) fn refused(setting: &'static str, why: String) -> SettingsError {
    SettingsError::Refused { setting, why }
}

fn positive(text: &str, unit: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| *number > 0);
    let number = number.filter(|number: &usize| u32::try_from(*number).is_ok());
    number.ok_or_else(|| format!("`{text}` is not a number of {unit} above 0"))
}
