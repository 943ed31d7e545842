//! Rows on a terminal, a page each.
use super::{InspectArgs, Opened};
pub fn run(_: &InspectArgs, _: &Opened) -> anyhow::Result<()> {
    Ok(())
}
