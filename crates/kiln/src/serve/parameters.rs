//! What a request says about its answers: in its query, or beside the images in JSON.

use crate::answer::Choice;

use super::problem::Problem;

/// The parameters that a request has given.
#[derive(Debug, Default)]
pub(crate) struct Parameters {
    pub(crate) choice: Choice,
    given: Vec<String>,
}

impl Parameters {
    /// What `?top=5&reject_below=0.9` asks for.
    pub(crate) fn from_query(query: &str) -> Result<Self, Problem> {
        let mut parameters = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            parameters.set(&name, &value)?;
        }
        Ok(parameters)
    }

    /// One more; each may be given once.
    pub(crate) fn set(&mut self, name: &str, value: &str) -> Result<(), Problem> {
        self.choice.set(name, value).map_err(Problem::bad_request)?;
        if self.given.iter().any(|given| given == name) {
            return Err(Problem::bad_request(format!("`{name}` is given twice; give it once")));
        }
        self.given.push(name.to_owned());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_given_once_and_nothing_else_is() {
        let parameters = Parameters::from_query("top=5&reject%5Fbelow=0%2e25&digits=true&&keep=1").unwrap();
        assert_eq!(parameters.choice, Choice { top: 5, digits: true, reject_below: 0.25, keep: 1.0 });
        assert_eq!(Parameters::from_query("").unwrap().choice, Choice::default());
        for (query, words) in [
            ("top=5&top=5", "`top` is given twice"),
            ("top", "`top` is ``; expected a whole number from 1 to 1000"),
            ("Top=5", "unknown parameter `Top`"),
            ("=", "unknown parameter ``"),
            ("keep=%FF", "from 0.5 to 1"),
        ] {
            let problem = format!("{:?}", Parameters::from_query(query).unwrap_err());
            assert!(problem.contains(words), "{query}: {problem}");
        }
    }
}
