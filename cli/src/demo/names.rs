//! What simulated people are called.

const FIRST: [&str; 64] = [
    "Anna", "Bob", "Carla", "David", "Elif", "Farid", "Grace", "Hiro", "Ines", "Jakub", "Keiko", "Liam", "Mara",
    "Noor", "Olga", "Pablo", "Qadir", "Rosa", "Sven", "Tala", "Uma", "Viktor", "Wanda", "Xenia", "Yusuf", "Zoe",
    "Aiko", "Bruno", "Chloe", "Dario", "Emma", "Felix", "Gita", "Hugo", "Ida", "Jonas", "Kofi", "Lena", "Milan",
    "Nina", "Oskar", "Petra", "Quinn", "Ravi", "Sofia", "Timo", "Ulla", "Vera", "Wei", "Ximena", "Yara", "Zeno",
    "Amir", "Bea", "Cem", "Dora", "Eli", "Finn", "Gwen", "Hana", "Ivan", "Judit", "Kaja", "Leo",
];

/// The name of the person numbered `index`; no two are called the same.
pub(super) fn name(index: usize) -> String {
    let first = FIRST[index % FIRST.len()];
    match index / FIRST.len() {
        0 => first.to_owned(),
        again => format!("{first} {}", again + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_are_called_the_same() {
        let names: std::collections::BTreeSet<String> = (0..500).map(name).collect();
        assert_eq!((names.len(), name(0), name(64)), (500, "Anna".to_owned(), "Anna 2".to_owned()));
    }
}
