//! How a field of a view is read: by its type.

use std::fmt;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::model::EntityKey;
use crate::model::envelope;
use crate::model::json::{number, text};

/// What a JSON value can be read as.
pub(super) trait Value: Sized {
    /// `None` where the value is something else.
    fn read(raw: &str) -> Option<Self>;
}

/// A member of a view: `Option<T>` may be missing, a bare `T` may not.
pub(super) trait Field: Sized {
    /// From the member under each of its names; the first usable one counts.
    fn find(raw: &[Option<&str>]) -> Option<Self>;

    /// Whether there is nothing to serialize.
    fn is_absent(&self) -> bool {
        false
    }
}

impl<T: Value> Field for T {
    fn find(raw: &[Option<&str>]) -> Option<Self> {
        raw.iter().flatten().find_map(|raw| T::read(raw))
    }
}

impl<T: Value> Field for Option<T> {
    fn find(raw: &[Option<&str>]) -> Option<Self> {
        Some(T::find(raw))
    }

    fn is_absent(&self) -> bool {
        self.is_none()
    }
}

impl Value for String {
    fn read(raw: &str) -> Option<Self> {
        text(raw).map(|text| text.into_owned())
    }
}

impl Value for EntityKey {
    fn read(raw: &str) -> Option<Self> {
        envelope::entity(raw)
    }
}

impl Value for i128 {
    fn read(raw: &str) -> Option<Self> {
        number(raw)?.parse().ok()
    }
}

/// What cannot be read is left out.
impl<T: Value> Value for Vec<T> {
    fn read(raw: &str) -> Option<Self> {
        let items: Vec<&RawValue> = serde_json::from_str(raw).ok()?;
        Some(items.into_iter().filter_map(|item| T::read(item.get())).collect())
    }
}

/// A state as the provider names it, such as `COMPLETED`, or the number that it gives for it. At most 64 bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct State(String);

impl State {
    /// The state as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Value for State {
    fn read(raw: &str) -> Option<Self> {
        envelope::state(raw).map(|state| Self(state.into_owned()))
    }
}

/// JSON whose shape is left open, exactly as on the wire.
#[derive(Clone, Serialize)]
#[serde(transparent)]
pub struct Json(Box<RawValue>);

impl Json {
    /// The JSON text.
    pub fn get(&self) -> &str {
        self.0.get()
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Json").finish_non_exhaustive()
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

impl Value for Json {
    fn read(raw: &str) -> Option<Self> {
        if raw == "null" {
            return None;
        }
        RawValue::from_string(raw.to_owned()).ok().map(Self)
    }
}

/// Declares a view: each field with its type and the names that it has on the wire. Gives it `Value` (so that views
/// nest), `Serialize` under the first name, and a `Debug` that shows no content.
macro_rules! view {
    ($(#[$meta:meta])* $view:ident {
        $($(#[$doc:meta])* $field:ident: $type:ty = $name:literal $(| $alias:literal)*,)+
    }) => {
        $(#[$meta])*
        #[derive(Clone, PartialEq, serde::Serialize)]
        pub struct $view {
            $($(#[$doc])* #[serde(rename = $name, skip_serializing_if = "super::field::Field::is_absent")] pub $field: $type,)+
        }

        impl std::fmt::Debug for $view {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($view)).finish_non_exhaustive()
            }
        }

        impl super::field::Value for $view {
            fn read(raw: &str) -> Option<Self> {
                let names = [$($name, $($alias,)*)+];
                let found = crate::model::json::members(raw, &names)?;
                let get = |name: &str| names.iter().position(|n| *n == name).and_then(|at| found[at]);
                Some(Self { $($field: super::field::Field::find(&[get($name), $(get($alias),)*])?,)+ })
            }
        }
    };
}

pub(super) use view;
