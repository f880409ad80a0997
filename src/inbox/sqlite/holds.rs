//! Looking for text in bodies, from within SQL.

use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::FromSqlError;
use rusqlite::{Connection, Error};

use super::rows::has_encoding;
use crate::model::{Search, content_encoding};
use crate::verify::Header;

/// The function of a body, its headers and a text.
pub(super) const HOLDS: &str = "body_holds";

/// Gives a connection the function.
pub(super) fn add(connection: &Connection) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC | FunctionFlags::SQLITE_DIRECTONLY;
    connection.create_scalar_function(HOLDS, 3, flags, holds)
}

fn holds(context: &Context<'_>) -> rusqlite::Result<bool> {
    let failed = |error: FromSqlError| Error::UserFunctionError(error.into());
    // Made once for a statement.
    let search = context.get_or_create_aux(2, |text| Ok::<_, FromSqlError>(Search::new(text.as_str()?)))?;
    let Some(body) = context.get_raw(0).as_blob_or_null().map_err(failed)? else { return Ok(false) };
    let headers = context.get_raw(1).as_str().map_err(failed)?;
    if !has_encoding(headers) {
        return Ok(search.is_in(body, None));
    }
    // Headers that cannot be read are damage, which is found by who shows them.
    let headers: Vec<Header> = serde_json::from_str(headers).unwrap_or_default();
    Ok(search.is_in(body, content_encoding(&headers).as_deref()))
}
