/* program.cpp: the text of PTX, read. Whatever is not known here is a Fault with its text: nothing is passed over. */
#include "program.h"

#include <algorithm>
#include <cctype>

namespace ptx {
namespace {

const char *const BLANKS = " \t\r\n";

std::string trimmed(const std::string &s) {
    const size_t begin = s.find_first_not_of(BLANKS);
    return begin == std::string::npos ? "" : s.substr(begin, s.find_last_not_of(BLANKS) + 1 - begin);
}
std::vector<std::string> split(const std::string &s, char at) {
    std::vector<std::string> found(1);
    int depth = 0;
    for (char c : s) {
        depth += (c == '{' || c == '[') - (c == '}' || c == ']');
        if (c == at && depth == 0)
            found.emplace_back();
        else
            found.back() += c;
    }
    for (std::string &part : found)
        part = trimmed(part);
    return found;
}
bool begins(const std::string &s, const std::string &with) {
    return s.compare(0, with.size(), with) == 0;
}
/* Bytes of a type, by its name; 0: predicates. */
uint8_t bytes_of(const std::string &type) {
    if (type == "pred")
        return 0;
    const std::string digits = type.substr(std::min<size_t>(type.size(), 1));
    if (!type.empty() && std::string("bsuf").find(type[0]) != std::string::npos)
        for (int bytes : {1, 2, 4, 8})
            if (digits == std::to_string(8 * bytes))
                return uint8_t(bytes);
    throw Fault("no type ." + type);
}

/* One function's text to its instructions. */
class Reader {
    Function &f;
    const std::unordered_map<std::string, uint32_t> &shared;
    const std::string parameter;

    struct Range {
        Operand first;
        uint32_t count, step;
    };
    std::vector<std::unordered_map<std::string, Range>> scopes{1};
    std::map<std::pair<uint64_t, uint8_t>, Operand> constants;
    std::map<Special, Operand> specials;
    std::unordered_map<std::string, uint32_t> labels;
    std::vector<std::pair<size_t, std::string>> branches;

    Operand make(uint8_t bytes) {
        const Operand o = {f.file, bytes};
        f.file += register_bytes(bytes);
        return o;
    }

    /* .reg .b32 %r<12>, %other; */
    void declare(const std::string &statement) {
        const size_t name = statement.find('%');
        if (name == std::string::npos)
            throw Fault("unknown: " + statement);
        const uint8_t bytes = bytes_of(trimmed(statement.substr(5, name - 5)).substr(1));
        for (const std::string &one : split(statement.substr(name), ',')) {
            const size_t open = one.find('<');
            const uint32_t count = open == std::string::npos ? 1 : uint32_t(std::stoul(one.substr(open + 1)));
            const Operand first = make(bytes);
            const uint32_t step = register_bytes(bytes);
            f.file += (count - 1) * step;
            scopes.back()[open == std::string::npos ? one : one.substr(0, open) + "#"] = {first, count, step};
        }
    }
    Operand find(const std::string &name) {
        const size_t digits = name.find_last_not_of("0123456789") + 1;
        const std::string prefix = name.substr(0, digits) + "#";
        for (auto scope = scopes.rbegin(); scope != scopes.rend(); ++scope) {
            if (const auto found = scope->find(name); found != scope->end())
                return found->second.first;
            if (digits == name.size())
                continue;
            if (const auto found = scope->find(prefix); found != scope->end()) {
                const Range &r = found->second;
                const auto number = uint32_t(std::stoul(name.substr(digits)));
                if (number < r.count)
                    return {r.first.at + number * r.step, r.first.bytes};
            }
        }
        throw Fault("no register " + name);
    }

    Operand constant(uint64_t value, uint8_t bytes) {
        if (bytes == 0)
            value = value != 0;
        else if (bytes < 8)
            value &= (uint64_t(1) << 8 * bytes) - 1;
        const auto key = std::make_pair(value, bytes);
        if (const auto found = constants.find(key); found != constants.end())
            return found->second;
        const Operand o = make(bytes);
        f.constants.push_back({o, value});
        return constants[key] = o;
    }
    Operand special(Special which) {
        if (const auto found = specials.find(which); found != specials.end())
            return found->second;
        const Operand o = make(4);
        f.specials.emplace_back(o, which);
        return specials[which] = o;
    }

    /* A register, or what is put into one: `bytes` wide, where it does not say itself. */
    Operand operand(const std::string &s, uint8_t bytes) {
        static const std::map<std::string, Special> known = {
            {"%tid.x", Special::THREAD},           {"%ntid.x", Special::THREADS},
            {"%ctaid.x", Special::BLOCK},          {"%nctaid.x", Special::BLOCKS},
            {"%clusterid.x", Special::CLUSTER},    {"%nclusterid.x", Special::CLUSTERS},
            {"%cluster_ctaid.x", Special::RANK},   {"%cluster_ctarank", Special::RANK},
            {"%cluster_nctaid.x", Special::RANKS}, {"%cluster_nctarank", Special::RANKS}};
        const size_t dot = s.rfind('.');
        if (begins(s, "%") && dot != std::string::npos && dot + 2 == s.size() &&
            (s[dot + 1] == 'y' || s[dot + 1] == 'z'))
            if (const auto found = known.find(s.substr(0, dot) + ".x"); found != known.end()) { /* a grid is a line */
                const Special one[] = {Special::THREADS, Special::BLOCKS, Special::CLUSTERS, Special::RANKS};
                const bool counts = std::find(std::begin(one), std::end(one), found->second) != std::end(one);
                return special(counts ? Special::ONE : Special::ZERO);
            }
        if (const auto found = known.find(s); found != known.end())
            return special(found->second);
        if (begins(s, "%"))
            return find(s);
        if (s == parameter)
            return constant(0, bytes);
        if (const auto found = shared.find(s); found != shared.end())
            return constant(found->second, bytes);
        if (begins(s, "0f") || begins(s, "0d"))
            return constant(std::stoull(s.substr(2), nullptr, 16), bytes);
        size_t end = 0;
        uint64_t value = 0;
        if (begins(s, "-"))
            value = uint64_t(std::stoll(s, &end, 0));
        else if (!s.empty() && std::isdigit(static_cast<unsigned char>(s[0])))
            value = std::stoull(s, &end, 0);
        if (end == 0 || (end != s.size() && s.substr(end) != "U"))
            throw Fault("no operand " + s);
        return constant(value, bytes);
    }
    /* ... that must be so wide. */
    Operand exact(const std::string &s, uint8_t bytes) {
        const Operand o = operand(s, bytes);
        if (o.bytes != bytes)
            throw Fault(s + " has another width");
        return o;
    }
    /* {a, b}, or one alone */
    std::vector<Operand> list(const std::string &s, uint8_t bytes) {
        std::vector<Operand> all;
        for (const std::string &one :
             begins(s, "{") ? split(s.substr(1, s.size() - 2), ',') : std::vector<std::string>{s})
            all.push_back(operand(one, bytes));
        return all;
    }

    /* ld.global.cs.v4.u32 and its like; how memory is cached is none of this machine's business. */
    void access(Instruction &i, const std::vector<std::string> &words, const std::string &address) {
        Access &a = i.access;
        a.count = 1;
        for (size_t w = 1; w + 1 < words.size(); w++) {
            const std::string &word = words[w];
            if (word == "global")
                a.space = Space::GLOBAL;
            else if (word == "shared" || word == "shared::cta")
                a.space = Space::SHARED;
            else if (word == "shared::cluster")
                a.space = Space::CLUSTER;
            else if (word == "param")
                a.space = Space::PARAM;
            else if (word == "v2" || word == "v4")
                a.count = uint8_t(word[1] - '0');
            else if (word != "cs" && word != "nc" && word != "ca" && word != "cg")
                throw Fault("unknown ." + word);
        }
        a.bytes = bytes_of(words.back());
        a.extends_sign = words.back()[0] == 's';
        const std::string inside = address.substr(1, address.size() - 2);
        const size_t plus = inside.find('+');
        a.offset = plus == std::string::npos ? 0 : std::stoll(inside.substr(plus + 1), nullptr, 0);
        i.from.push_back(operand(trimmed(inside.substr(0, plus)), 8));
    }

    void instruction(Instruction &i, const std::vector<std::string> &given) {
        const std::string &name = i.name;
        const auto expect = [&](size_t n) {
            if (given.size() != n)
                throw Fault("not so many operands");
        };
        const std::vector<std::string> words = split(name, '.');
        const std::string &op = words[0];
        i.moves = op == "mov";
        const bool in_parts = i.moves && given.size() == 2 && (begins(given[0], "{") || begins(given[1], "{"));
        if (const auto found = all_known().find(name); found != all_known().end() && !in_parts) {
            const std::vector<uint8_t> &bytes = found->second.bytes;
            expect(bytes.size());
            i.act = found->second.act;
            i.to.push_back(exact(given[0], bytes[0]));
            for (size_t k = 1; k < given.size(); k++)
                i.from.push_back(exact(given[k], bytes[k]));
        } else if (in_parts) {
            const uint8_t whole = bytes_of(words.back());
            const bool into_parts = given[0][0] == '{';
            const size_t parts = split(given[into_parts ? 0 : 1].substr(1), ',').size();
            i.act = into_parts ? unpack : pack;
            i.to = list(given[0], into_parts ? uint8_t(whole / parts) : whole);
            i.from = list(given[1], into_parts ? whole : uint8_t(whole / parts));
        } else if (op == "ld" || op == "st") {
            expect(2);
            const bool loads = op == "ld";
            i.kind = loads ? Kind::LOAD : Kind::STORE;
            i.act = loads ? load : store;
            access(i, words, given[loads ? 1 : 0]);
            const std::vector<Operand> values = list(given[loads ? 0 : 1], i.access.bytes);
            if (values.size() != i.access.count)
                throw Fault("not so many registers");
            for (Operand o : values)
                if (o.bytes < i.access.bytes)
                    throw Fault("a register that is too narrow");
            (loads ? i.to : i.from).insert((loads ? i.to : i.from).end(), values.begin(), values.end());
        } else if (name == "atom.global.min.s64") {
            expect(3);
            i.kind = Kind::STORE;
            i.act = atomic_min_s64;
            access(i, {"atom", "global", "s64"}, given[1]);
            i.to.push_back(exact(given[0], 8));
            i.from.push_back(exact(given[2], 8));
        } else if (name == "bra" || name == "bra.uni") {
            expect(1);
            i.kind = Kind::BRANCH;
            branches.emplace_back(f.code.size(), given[0]);
        } else if (name == "ret" || name == "exit") {
            i.kind = Kind::RETURN;
        } else if (begins(name, "shfl.sync.") && words.size() == 4 && words[3] == "b32") {
            static const std::map<std::string, Shuffle> ways = {
                {"up", Shuffle::UP}, {"down", Shuffle::DOWN}, {"bfly", Shuffle::BUTTERFLY}, {"idx", Shuffle::INDEX}};
            if (!ways.count(words[2]))
                throw Fault("unknown");
            expect(5);
            i.kind = Kind::SHUFFLE;
            i.shuffle = ways.at(words[2]);
            const std::vector<std::string> to = split(given[0], '|');
            i.to.push_back(exact(to[0], 4));
            if (to.size() > 1)
                i.to.push_back(exact(to[1], 0));
            for (size_t k = 1; k < 5; k++)
                i.from.push_back(exact(given[k], 4));
        } else if (name == "bar.sync" || name == "barrier.sync") {
            expect(1);
            if (given[0] != "0")
                throw Fault("a barrier other than 0");
            i.kind = Kind::BARRIER;
        } else if (name == "bar.red.or.pred") {
            expect(3);
            if (given[1] != "0")
                throw Fault("a barrier other than 0");
            i.kind = Kind::VOTE;
            i.to.push_back(exact(given[0], 0));
            i.from.push_back(exact(given[2], 0));
        } else if (name == "barrier.cluster.arrive" || name == "barrier.cluster.arrive.aligned") {
            i.kind = Kind::ARRIVE;
        } else if (name == "barrier.cluster.wait" || name == "barrier.cluster.wait.aligned") {
            i.kind = Kind::WAIT;
        } else {
            throw Fault("unknown");
        }
    }

    void statement(const std::string &s) {
        if (begins(s, ".reg")) {
            declare(s);
            return;
        }
        if (begins(s, ".pragma") || begins(s, ".shared")) /* Program has the latter */
            return;
        Instruction i;
        i.text = s;
        try {
            std::string rest = s;
            if (begins(rest, "@")) {
                const size_t end = rest.find_first_of(BLANKS);
                i.guarded = true;
                i.unless = begins(rest, "@!");
                i.guard = exact(rest.substr(i.unless ? 2 : 1, end - (i.unless ? 2 : 1)), 0);
                rest = trimmed(rest.substr(end));
            }
            const size_t end = std::min(rest.find_first_of(BLANKS), rest.size());
            i.name = rest.substr(0, end);
            const std::string given = trimmed(rest.substr(end));
            instruction(i, given.empty() ? std::vector<std::string>() : split(given, ','));
        } catch (const std::exception &e) { /* of numbers, too */
            throw Fault("PTX: " + std::string(e.what()) + ": " + s + "\n  in " + f.name);
        }
        f.code.push_back(std::move(i));
    }

  public:
    Reader(Function &f, const std::unordered_map<std::string, uint32_t> &shared, std::string parameter)
        : f(f), shared(shared), parameter(std::move(parameter)) {
    }

    void read(const std::string &body) {
        size_t at = 0;
        while ((at = body.find_first_not_of(BLANKS, at)) != std::string::npos) {
            if (body[at] == '{') {
                scopes.emplace_back();
                at++;
            } else if (body[at] == '}') {
                scopes.pop_back();
                at++;
            } else {
                const size_t word = body.find_first_of(" \t\r\n;", at);
                const bool is_label = word != std::string::npos && body[word - 1] == ':';
                const size_t end = is_label ? word - 1 : body.find(';', at);
                if (end == std::string::npos)
                    throw Fault("PTX: unknown: " + body.substr(at, 80));
                if (is_label)
                    labels[body.substr(at, end - at)] = uint32_t(f.code.size());
                else
                    statement(trimmed(body.substr(at, end - at)));
                at = end + 1;
            }
        }
        Instruction last;
        last.kind = Kind::RETURN;
        last.name = last.text = "ret";
        f.code.push_back(last);
        for (const auto &[place, label] : branches) {
            if (!labels.count(label))
                throw Fault("PTX: no label " + label + "\n  in " + f.name);
            f.code[place].target = labels[label];
        }
        for (const auto &[name, place] : labels)
            f.code[place].leads = true;
        for (size_t place = 1; place < f.code.size(); place++)
            f.code[place].leads |= f.code[place - 1].kind != Kind::COMPUTE && f.code[place - 1].kind != Kind::LOAD &&
                                   f.code[place - 1].kind != Kind::STORE;
    }
};

std::string without_comments(const std::string &text) {
    std::string left;
    left.reserve(text.size());
    for (size_t at = 0; at < text.size();) {
        const size_t end = std::min(text.find('\n', at), text.size() - 1) + 1;
        left.append(text, at, std::min(text.find("//", at), end) - at);
        left += '\n';
        at = end;
    }
    return left;
}

} // namespace

Program::Program(std::string given) : text(without_comments(given)) {
    for (size_t at = 0; (at = text.find(".shared ", at)) != std::string::npos;) {
        const size_t end = text.find(';', at);
        const std::string declared = trimmed(text.substr(at, end - at));
        const size_t open = declared.find('['), name = declared.find_last_of(BLANKS, open) + 1;
        if (!begins(declared, ".shared .align ") || declared.find(" .b8 ") == std::string::npos ||
            open == std::string::npos)
            throw Fault("PTX: unknown: " + declared);
        const auto align = uint32_t(std::stoul(declared.substr(15)));
        shared_bytes = (shared_bytes + align - 1) / align * align;
        shared[declared.substr(name, open - name)] = shared_bytes;
        shared_bytes += uint32_t(std::stoul(declared.substr(open + 1)));
        at = end;
    }
    for (size_t at = 0; (at = text.find(".entry ", at)) != std::string::npos;) {
        const size_t name = at + 7, open = text.find('(', name);
        size_t end = text.find('{', open);
        for (int depth = 0; end < text.size(); end++) {
            depth += (text[end] == '{') - (text[end] == '}');
            if (depth == 0)
                break;
        }
        entries[trimmed(text.substr(name, open - name))] = {at, end};
        at = end;
    }
}

const Function &Program::function(const std::string &name) {
    if (const auto found = read.find(name); found != read.end())
        return *found->second;
    const auto entry = entries.find(name);
    if (entry == entries.end())
        throw Fault("PTX: no function " + name);
    const auto [begin, end] = entry->second;
    const size_t open = text.find('{', begin);
    const std::string head = text.substr(begin, open - begin);
    auto f = std::make_unique<Function>();
    f->name = name;
    if (const size_t at = head.find(".maxntid"); at != std::string::npos)
        f->threads = uint32_t(std::stoul(head.substr(at + 8)));
    const std::string parameter = name + "_param_0";
    if (const size_t at = head.find(parameter + "["); at != std::string::npos)
        f->parameter_bytes = uint32_t(std::stoul(head.substr(at + parameter.size() + 1)));
    Reader(*f, shared, parameter).read(text.substr(open + 1, end - open - 1));
    share_registers(*f);
    return *(read[name] = std::move(f));
}

} // namespace ptx
