//! The plural of a kind, which is part of the path of every generated API.
//!
//! kro takes it from the flect library, whose rules are partly odd (`basis` becomes `bases`, `schema` `schemas`, `vertex`
//! `vertices`). Objects live under these names, so the rules are followed exactly, odd ones too. The tables are those of
//! flect 1.0.3.

/// A word with an irregular plural.
struct Word {
    singular: &'static str,
    plural: &'static str,
    /// Another plural that counts as plural already; empty if there is none.
    alternative: &'static str,
    /// Whether `plural` is also known to be a plural.
    known_plural: bool,
    /// Whether words that end in this one follow it.
    as_suffix: bool,
}

const fn word(singular: &'static str, plural: &'static str, alternative: &'static str) -> Word {
    Word {
        singular,
        plural,
        alternative,
        known_plural: true,
        as_suffix: true,
    }
}

const fn exact(singular: &'static str, plural: &'static str) -> Word {
    Word {
        singular,
        plural,
        alternative: "",
        known_plural: true,
        as_suffix: false,
    }
}

const fn one_way(singular: &'static str, plural: &'static str, alternative: &'static str) -> Word {
    Word {
        singular,
        plural,
        alternative,
        known_plural: false,
        as_suffix: true,
    }
}

#[rustfmt::skip]
const WORDS: &[Word] = &[
    word("aircraft", "aircraft", ""), word("beef", "beef", "beefs"), word("bison", "bison", ""),
    one_way("blues", "blues", ""), word("chassis", "chassis", ""), word("deer", "deer", ""),
    word("fish", "fish", "fishes"), word("moose", "moose", ""), word("police", "police", ""),
    word("salmon", "salmon", "salmons"), word("series", "series", ""), word("sheep", "sheep", ""),
    word("shrimp", "shrimp", "shrimps"), word("species", "species", ""),
    word("swine", "swine", "swines"), word("trout", "trout", "trouts"),
    word("tuna", "tuna", "tunas"), word("you", "you", ""), word("child", "children", ""),
    exact("ox", "oxen"), word("foot", "feet", ""), word("goose", "geese", ""),
    word("man", "men", ""), word("human", "humans", ""), exact("louse", "lice"),
    word("mouse", "mice", ""), word("tooth", "teeth", ""), word("woman", "women", ""),
    exact("die", "dice"), word("person", "people", ""), word("adieu", "adieux", "adieus"),
    word("fabliau", "fabliaux", ""), word("bureau", "bureaus", "bureaux"),
    word("criterion", "criteria", ""), word("ganglion", "ganglia", "ganglions"),
    word("lexicon", "lexica", "lexicons"), word("mitochondrion", "mitochondria", "mitochondrions"),
    word("noumenon", "noumena", ""), word("phenomenon", "phenomena", ""), word("taxon", "taxa", ""),
    word("media", "media", ""), one_way("medium", "media", "mediums"),
    word("stadium", "stadiums", "stadia"), word("aquarium", "aquaria", "aquariums"),
    word("auditorium", "auditoria", "auditoriums"), word("symposium", "symposia", "symposiums"),
    word("curriculum", "curriculums", "curricula"), word("quota", "quotas", ""),
    word("alumnus", "alumni", "alumnuses"), word("bacillus", "bacilli", ""),
    word("cactus", "cacti", "cactuses"), word("coccus", "cocci", ""),
    word("focus", "foci", "focuses"), word("locus", "loci", "locuses"),
    word("nucleus", "nuclei", "nucleuses"), word("octopus", "octupuses", "octopi"),
    word("radius", "radii", "radiuses"), word("syllabus", "syllabi", ""),
    word("corpus", "corpora", "corpuses"), word("genus", "genera", ""),
    word("alumna", "alumnae", ""), word("vertebra", "vertebrae", ""),
    word("differentia", "differentiae", ""), word("minutia", "minutiae", ""),
    word("vita", "vitae", ""), word("larva", "larvae", ""), word("postcava", "postcavae", ""),
    word("praecava", "praecavae", ""), word("uva", "uvae", ""), word("apex", "apices", "apexes"),
    word("codex", "codices", "codexes"), word("index", "indices", "indexes"),
    word("latex", "latices", "latexes"), word("vertex", "vertices", "vertexes"),
    word("vortex", "vortices", "vortexes"), word("appendix", "appendices", "appendixes"),
    word("radix", "radices", "radixes"), word("helix", "helices", "helixes"), exact("axis", "axes"),
    word("crisis", "crises", ""), one_way("ellipsis", "ellipses", ""),
    word("genesis", "geneses", ""), word("oasis", "oases", ""), word("thesis", "theses", ""),
    word("testis", "testes", ""), word("base", "bases", ""), one_way("basis", "bases", ""),
    exact("alias", "aliases"), word("vedalia", "vedalias", ""), exact("use", "uses"),
    word("abuse", "abuses", ""), word("cause", "causes", ""), word("clause", "clauses", ""),
    word("cruse", "cruses", ""), word("excuse", "excuses", ""), word("fuse", "fuses", ""),
    word("house", "houses", ""), word("misuse", "misuses", ""), word("muse", "muses", ""),
    word("pause", "pauses", ""), word("ache", "aches", ""), word("topaz", "topazes", ""),
    word("buffalo", "buffaloes", "buffalos"), word("potato", "potatoes", ""),
    word("tomato", "tomatoes", ""), word("equipment", "equipment", ""),
    word("information", "information", ""), word("jeans", "jeans", ""), word("money", "money", ""),
    word("news", "news", ""), word("rice", "rice", ""), word("dwarf", "dwarfs", "dwarves"),
    word("hoof", "hoofs", "hooves"), word("thief", "thieves", ""), word("chive", "chives", ""),
    word("hive", "hives", ""), word("move", "moves", ""), word("movie", "movies", ""),
    word("cookie", "cookies", ""), word("pretorium", "pretoriums", ""),
    word("agenda", "agendas", ""), word("formula", "formulas", "formulae"),
    word("shoe", "shoes", ""), exact("toe", "toes"), word("graffiti", "graffiti", ""),
];

/// Endings, the first that matches counts.
#[rustfmt::skip]
const ENDINGS: &[(&str, &str)] = &[
    ("tive", "tives"), ("eaf", "eaves"), ("oaf", "oaves"), ("afe", "aves"), ("arf", "arves"),
    ("rfe", "rves"), ("rf", "rves"), ("lf", "lves"), ("fe", "ves"), ("ay", "ays"), ("ey", "eys"),
    ("oy", "oys"), ("quy", "quies"), ("uy", "uys"), ("y", "ies"), ("eau", "eaux"),
    ("bula", "bulae"), ("dula", "bulae"), ("lula", "bulae"), ("nula", "bulae"), ("vula", "bulae"),
    ("hedron", "hedra"), ("ium", "ia"), ("seum", "seums"), ("eum", "ea"), ("oum", "oa"),
    ("stracum", "straca"), ("dum", "da"), ("elum", "ela"), ("ilum", "ila"), ("olum", "ola"),
    ("ulum", "ula"), ("llum", "lla"), ("ylum", "yla"), ("imum", "ima"), ("ernum", "erna"),
    ("gnum", "gna"), ("brum", "bra"), ("crum", "cra"), ("terum", "tera"), ("serum", "sera"),
    ("trum", "tra"), ("antum", "anta"), ("atum", "ata"), ("entum", "enta"), ("etum", "eta"),
    ("itum", "ita"), ("otum", "ota"), ("utum", "uta"), ("ctum", "cta"), ("ovum", "ova"),
    ("trix", "trices"), ("iasis", "iases"), ("mesis", "meses"), ("kinesis", "kineses"),
    ("resis", "reses"), ("gnosis", "gnoses"), ("opsis", "opses"), ("ysis", "yses"),
    ("ouse", "ouses"), ("lause", "lauses"), ("us", "uses"), ("ch", "ches"), ("io", "ios"),
    ("sh", "shes"), ("ss", "sses"), ("ez", "ezzes"), ("iz", "izzes"), ("tz", "tzes"),
    ("zz", "zzes"), ("ano", "anos"), ("lo", "los"), ("to", "tos"), ("oo", "oos"), ("o", "oes"),
    ("x", "xes"),
];

/// Abbreviations that no ending applies to.
#[rustfmt::skip]
const ABBREVIATIONS: &[&str] = &[
    "eia", "ssh", "tia",
];

/// The plural of a kind, in lower case.
pub fn plural(kind: &str) -> String {
    let name = kind.to_lowercase();
    if let Some(word) = WORDS.iter().find(|word| word.singular == name) {
        return word.plural.to_owned();
    }
    let is_plural = |word: &Word| {
        word.known_plural
            && (word.plural == name || (!word.alternative.is_empty() && word.alternative == name))
    };
    if WORDS.iter().any(is_plural) {
        return name;
    }
    if ABBREVIATIONS.contains(&name.as_str()) {
        return name + "s";
    }
    // Later words take precedence, and all words over endings.
    let words = WORDS.iter().rev().filter(|word| word.as_suffix);
    let rules = words
        .map(|word| (word.singular, word.plural))
        .chain(ENDINGS.iter().copied());
    for (singular, plural) in rules {
        if name.ends_with(plural) {
            return name;
        }
        if let Some(stem) = name.strip_suffix(singular) {
            return format!("{stem}{plural}");
        }
    }
    if name.ends_with('s') {
        name
    } else {
        name + "s"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plurals() {
        for (kind, expect) in [
            ("WebApp", "webapps"),
            ("Application", "applications"),
            ("NetworkPolicy", "networkpolicies"),
            ("Gateway", "gateways"),
            ("Ingress", "ingresses"),
            ("CoreDNSDeployment", "corednsdeployments"),
            ("Something", "somethings"),
            ("Database", "databases"),
            ("Analysis", "analyses"),
            ("Status", "statuses"),
            ("Box", "boxes"),
            ("Index", "indices"),
            ("VolumeIndex", "volumeindices"),
            ("Person", "people"),
            ("Series", "series"),
            ("Applications", "applications"),
            ("Proxy", "proxies"),
            ("Cache", "caches"),
            ("Leaf", "leaves"),
            ("Human", "humans"),
            ("Information", "information"),
            ("Repo", "repoes"),
            ("Bus", "buses"),
            ("EKSCluster", "eksclusters"),
        ] {
            assert_eq!(plural(kind), expect, "{kind}");
        }
    }
}
