//! What is run to its end before an instance's command is.

use proffer_proto::Rejection;
use serde::Serialize;
use serde_json::Value;

use super::fields::Fields;
use super::values::{at_most, label};
use super::{Run, ServiceSpec};

/// The most steps of one service.
pub const INIT_MAX: usize = 16;

/// What is run to its end before an instance's command is, in the same container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InitStep {
    /// Its name, a DNS label, each once.
    pub name: String,
    /// What it runs.
    #[serde(flatten)]
    pub run: Run,
}

impl InitStep {
    pub(super) fn read(value: Value) -> Result<Self, Rejection> {
        let mut fields = Fields::of(value)?;
        let step = Self {
            name: fields.required("name", "a name as text")?,
            run: Run::read(&mut fields)?,
        };
        fields.end()?;
        Ok(step)
    }
}

pub(super) fn validate(steps: &[InitStep]) -> Result<(), Rejection> {
    at_most("init", steps.len(), INIT_MAX)?;
    let mut names = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        let valid = label("name", &step.name).and_then(|()| step.run.validate());
        valid.map_err(|rejection| rejection.at(index).within("init"))?;
        if names.contains(&step.name.as_str()) {
            let rejection = Rejection::new("name", format!("is {:?} a second time", step.name), "every name once");
            return Err(rejection.at(index).within("init"));
        }
        names.push(&step.name);
    }
    Ok(())
}

/// Runs every step to its end, the first that fails ending it all, and then becomes the command. Its arguments are, for each
/// step, its name, the number of its words and those, and after all of them a dash and the command.
const SCRIPT: &str = r#"while [ "$1" != - ]; do
    name=$1 words=$2 line=
    shift 2
    while [ "$words" -gt 0 ]; do
        quoted=$(printf '%sx' "$1" | sed "s/'/'\\\\''/g")
        line="$line '${quoted%x}'"
        shift
        words=$((words - 1))
    done
    ( eval "exec $line" )
    code=$?
    if [ "$code" -ne 0 ]; then
        echo "init $name failed with $code" >&2
        exit "$code"
    fi
done
shift
exec "$@""#;

impl ServiceSpec {
    /// The words that an instance is started with where something runs before; `fill` fills templates.
    pub fn words_with_init(&self, fill: impl Fn(&str) -> String) -> Vec<String> {
        let words = |run: &Run| match run {
            Run::Command(line) => vec!["/bin/sh".to_owned(), "-c".to_owned(), fill(line)],
            Run::Argv(argv) => argv.iter().map(|word| fill(word)).collect(),
        };
        let mut all: Vec<String> = ["/bin/sh", "-c", SCRIPT, "init"].map(str::to_owned).into();
        for step in &self.init {
            let step_words = words(&step.run);
            all.push(step.name.clone());
            all.push(step_words.len().to_string());
            all.extend(step_words);
        }
        all.push("-".to_owned());
        all.extend(words(&self.run));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(name: &str, argv: &[&str]) -> InitStep {
        InitStep {
            name: name.to_owned(),
            run: Run::Argv(argv.iter().map(|word| (*word).to_owned()).collect()),
        }
    }

    fn run(spec: &ServiceSpec) -> (String, String, Option<i32>) {
        let words = spec.words_with_init(str::to_owned);
        let output = std::process::Command::new(&words[0])
            .args(&words[1..])
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (text(output.stdout), text(output.stderr), output.status.code())
    }

    #[test]
    fn steps_run_in_order_with_their_words_as_they_are_and_then_the_command() {
        let mut spec = ServiceSpec::command("web", "echo \"main '$0' $HOME\"");
        let odd = "it's \"odd\" $HOME `ls` \\ \n*\n";
        spec.init = vec![
            step("first", &["printf", "%s|", odd, ""]),
            step("a-second", &["echo", "-", "2"]),
        ];
        let home = std::env::var("HOME").unwrap_or_default();
        let expected = format!("{odd}||- 2\nmain '/bin/sh' {home}\n");
        assert_eq!(run(&spec), (expected, String::new(), Some(0)));
    }

    #[test]
    fn what_fails_is_named_and_ends_it_all() {
        let mut spec = ServiceSpec::command("web", "echo main");
        spec.init = vec![
            step("good", &["true"]),
            step("bad", &["sh", "-c", "exit 7"]),
            step("never", &["echo", "x"]),
        ];
        assert_eq!(
            run(&spec),
            (String::new(), "init bad failed with 7\n".to_owned(), Some(7))
        );
    }
}
