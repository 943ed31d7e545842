//! Numbers below zero as the values of options.

use clap::Command;

/// Takes `-1` after an option for its value, so that what is wrong with it is said of the option; clap takes it for another option.
#[must_use]
pub fn negative_numbers(command: Command) -> Command {
    command
        .mut_args(
            |arg| match arg.get_long().is_some() && arg.get_action().takes_values() {
                true => arg.allow_negative_numbers(true),
                false => arg,
            },
        )
        .mut_subcommands(negative_numbers)
}

#[cfg(test)]
mod tests {
    use clap::{Arg, ArgAction};

    use super::*;

    #[test]
    fn a_number_below_zero_is_a_value() {
        let verb = Command::new("train")
            .arg(Arg::new("rate").long("rate"))
            .arg(Arg::new("fast").long("fast").action(ArgAction::SetTrue))
            .arg(Arg::new("rest").num_args(0..));
        let command = || Command::new("x").subcommand(verb.clone());
        let line = ["x", "train", "--rate", "-0.5", "--fast"];
        assert!(command().try_get_matches_from(line).is_err());
        let matches = negative_numbers(command()).try_get_matches_from(line);
        let matches = matches.unwrap();
        let (_, verb) = matches.subcommand().unwrap();
        assert_eq!(verb.get_one::<String>("rate").unwrap(), "-0.5");
        assert!(verb.get_flag("fast"));
        let other = ["x", "train", "--rate", "--fast"];
        assert!(
            negative_numbers(command())
                .try_get_matches_from(other)
                .is_err()
        );
    }
}
