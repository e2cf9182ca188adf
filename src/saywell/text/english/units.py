"""Units, currencies and scales: what is written, and its English name."""

from __future__ import annotations

from functools import cache

UNITS = {
    "km": "kilometre", "m": "metre", "cm": "centimetre", "mm": "millimetre", "µm": "micrometre", "nm": "nanometre",
    "mi": "mile", "ft": "foot", "yd": "yard", "yds": "yard", "in.": "inch", "kg": "kilogram", "g": "gram",
    "mg": "milligram", "µg": "microgram", "mcg": "microgram", "lb": "pound", "lbs": "pound", "oz": "ounce",
    "fl oz": "fluid ounce", "fl. oz.": "fluid ounce", "l": "litre", "L": "litre", "ml": "millilitre", "mL": "millilitre",
    "µL": "microlitre", "cl": "centilitre", "dl": "decilitre", "dL": "decilitre", "Hz": "hertz", "kHz": "kilohertz", "MHz": "megahertz",
    "GHz": "gigahertz", "THz": "terahertz", "W": "watt", "kW": "kilowatt", "MW": "megawatt", "GW": "gigawatt",
    "TW": "terawatt", "mW": "milliwatt", "Wh": "watt hour", "kWh": "kilowatt hour", "MWh": "megawatt hour",
    "GWh": "gigawatt hour", "TWh": "terawatt hour", "V": "volt", "kV": "kilovolt", "mV": "millivolt", "A": "amp",
    "mA": "milliamp", "mAh": "milliamp hour", "Ah": "amp hour", "kB": "kilobyte", "KB": "kilobyte", "MB": "megabyte",
    "GB": "gigabyte", "TB": "terabyte", "PB": "petabyte", "KiB": "kibibyte", "MiB": "mebibyte", "GiB": "gibibyte",
    "TiB": "tebibyte", "kbps": "kilobit per second", "Kbps": "kilobit per second", "Mbps": "megabit per second",
    "Gbps": "gigabit per second", "kbit/s": "kilobit per second", "Mbit/s": "megabit per second",
    "Gbit/s": "gigabit per second", "Mb/s": "megabit per second", "Gb/s": "gigabit per second",
    "MB/s": "megabyte per second", "GB/s": "gigabyte per second", "TB/s": "terabyte per second",
    "s": "second", "sec": "second", "secs": "second", "ms": "millisecond", "µs": "microsecond", "ns": "nanosecond",
    "min": "minute", "mins": "minute", "h": "hour", "hr": "hour", "hrs": "hour", "yr": "year", "yrs": "year",
    "wk": "week", "wks": "week", "mo": "month", "mos": "month", "mph": "mile per hour", "kph": "kilometre per hour",
    "km/h": "kilometre per hour", "KM/H": "kilometre per hour", "km/s": "kilometre per second", "mg/kg": "milligram per kilogram", "kmh": "kilometre per hour", "kmph": "kilometre per hour", "kn": "knot", "kt": "knot",
    "m/s": "metre per second", "m/s²": "metre per second squared", "m/s^2": "metre per second squared",
    "mpg": "mile per gallon", "fps": "frame per second", "rpm": "revolution per minute", "bpm": "beat per minute",
    "dpi": "dot per inch", "ppi": "pixel per inch", "wpm": "word per minute", "ppm": "part per million",
    "ppb": "part per billion", "km²": "square kilometre", "m²": "square metre", "cm²": "square centimetre",
    "mm²": "square millimetre", "ft²": "square foot", "mi²": "square mile", "in²": "square inch", "m³": "cubic metre",
    "cm³": "cubic centimetre", "ft³": "cubic foot", "km^2": "square kilometre", "m^2": "square metre",
    "m^3": "cubic metre", "sq ft": "square foot", "sq. ft.": "square foot", "sq km": "square kilometre",
    "sq mi": "square mile", "cu ft": "cubic foot", "cu m": "cubic metre", "sq m": "square metre", "cc": "cubic centimetre", "dB": "decibel", "dBA": "decibel",
    "px": "pixel", "pt": "point", "Pa": "pascal", "hPa": "hectopascal", "kPa": "kilopascal", "MPa": "megapascal",
    "GPa": "gigapascal", "mbar": "millibar", "bar": "bar", "atm": "atmosphere", "psi": "pound per square inch",
    "mmHg": "millimetre of mercury", "cal": "calorie", "kcal": "kilocalorie", "kJ": "kilojoule", "MJ": "megajoule",
    "J": "joule", "eV": "electronvolt", "keV": "kiloelectronvolt", "MeV": "megaelectronvolt",
    "GeV": "gigaelectronvolt", "kN": "kilonewton", "N": "newton", "Nm": "newton metre", "Ω": "ohm", "kΩ": "kiloohm",
    "MΩ": "megaohm", "µF": "microfarad", "nF": "nanofarad", "pF": "picofarad", "lm": "lumen", "lx": "lux",
    "mol": "mole", "mmol": "millimole", "µmol": "micromole", "ha": "hectare", "MP": "megapixel", "hp": "horsepower",
    "°C": "degree Celsius", "°F": "degree Fahrenheit", "° C": "degree Celsius", "° F": "degree Fahrenheit",
    "ºC": "degree Celsius", "ºF": "degree Fahrenheit", "℃": "degree Celsius", "℉": "degree Fahrenheit",
    "°": "degree", "tsp": "teaspoon", "tsps": "teaspoon", "tbsp": "tablespoon", "tbsps": "tablespoon", "qt": "quart",
    "gal": "gallon", "pts": "point", "%": "percent", "‰": "per mille", "t": "tonne", "K": "kelvin", "Mt": "megatonne",
    "IU": "international unit", "dpt": "dioptre", "T": "tesla", "bps": "bit per second", "nmi": "nautical mile", "ly": "light year", "deg C": "degree Celsius", "deg F": "degree Fahrenheit",
    "in³": "cubic inch", "km³": "cubic kilometre",
}  # fmt: skip
"""What is written after a number → the singular name."""
UNITS.update({unit.translate({178: "2", 179: "3"}): name for unit, name in UNITS.items() if unit[-1] in "²³"})
UNITS.update({unit.replace("µ", "μ"): name for unit, name in UNITS.items() if "µ" in unit})  # the Greek letter

LETTERS = frozenset("VWLAJNgmhslt")
"""Single letters that are units after a space, too: `230 V`; not after a name: `Apollo 5 V`."""
NEVER_SPACED = frozenset(["K", "T", "t", "pt", "MP", "bar"])
"""Units only right behind the number, or too often something else."""
TIMES = {"y": "year", "w": "week", "d": "day", "h": "hour", "m": "minute", "s": "second",
         "hr": "hour", "hrs": "hour", "min": "minute", "mins": "minute", "sec": "second", "secs": "second"}  # fmt: skip
"""Parts of a duration: `1h 20m`."""
_IRREGULAR = {
    "foot": "feet", "inch": "inches", "hertz": "hertz", "kilohertz": "kilohertz", "megahertz": "megahertz",
    "gigahertz": "gigahertz", "terahertz": "terahertz", "percent": "percent", "per mille": "per mille", "lux": "lux",
    "horsepower": "horsepower", "kelvin": "kelvins",
}  # fmt: skip

CURRENCIES = {
    "$": ("dollar", "dollars", "cent", "cents"), "€": ("euro", "euros", "cent", "cents"),
    "£": ("pound", "pounds", "penny", "pence"), "¥": ("yen", "yen", "sen", "sen"),
    "₹": ("rupee", "rupees", "paisa", "paise"), "₩": ("won", "won", "jeon", "jeon"),
    "₽": ("rouble", "roubles", "kopek", "kopeks"), "₿": ("bitcoin", "bitcoins", "cent", "cents"),
    "₺": ("lira", "lira", "kurush", "kurush"), "₴": ("hryvnia", "hryvnias", "kopiyka", "kopiykas"),
    "₫": ("dong", "dong", "hao", "hao"), "₱": ("peso", "pesos", "centavo", "centavos"),
    "฿": ("baht", "baht", "satang", "satang"), "₦": ("naira", "naira", "kobo", "kobo"),
    "₵": ("cedi", "cedis", "pesewa", "pesewas"), "৳": ("taka", "taka", "poisha", "poisha"),
    "₸": ("tenge", "tenge", "tiyn", "tiyn"), "₮": ("tugrik", "tugriks", "mongo", "mongo"),
    "₲": ("guarani", "guaranis", "centimo", "centimos"), "₾": ("lari", "lari", "tetri", "tetri"),
    "₪": ("shekel", "shekels", "agora", "agorot"), "₡": ("colon", "colones", "centimo", "centimos"),
    "R$": ("real", "reais", "centavo", "centavos"), "zł": ("zloty", "zlotys", "grosz", "groszy"),
    "Kč": ("koruna", "korunas", "haler", "haleru"), "kr": ("krone", "kroner", "ore", "ore"),
    "Rs": ("rupee", "rupees", "paisa", "paise"), "Rs.": ("rupee", "rupees", "paisa", "paise"),
    "CHF": ("Swiss franc", "Swiss francs", "centime", "centimes"), "Fr.": ("franc", "francs", "centime", "centimes"),
}  # fmt: skip
"""Sign → one, many, one coin, coins."""
AREAS = {
    "US": "US ", "A": "Australian ", "AU": "Australian ", "C": "Canadian ", "CA": "Canadian ", "HK": "Hong Kong ",
    "NZ": "New Zealand ", "S": "Singapore ", "NT": "New Taiwan ", "MX": "Mexican ",
}  # fmt: skip
"""Before a dollar sign."""
CODES = {
    "USD": ("US dollar", "US dollars"), "EUR": ("euro", "euros"), "GBP": ("pound", "pounds"), "JPY": ("yen", "yen"),
    "CHF": ("Swiss franc", "Swiss francs"), "CAD": ("Canadian dollar", "Canadian dollars"),
    "AUD": ("Australian dollar", "Australian dollars"), "CNY": ("yuan", "yuan"), "RMB": ("yuan", "yuan"),
    "INR": ("rupee", "rupees"), "SEK": ("Swedish krona", "Swedish kronor"), "PLN": ("zloty", "zlotys"),
    "NOK": ("Norwegian krone", "Norwegian kroner"), "DKK": ("Danish krone", "Danish kroner"),
    "NZD": ("New Zealand dollar", "New Zealand dollars"), "HKD": ("Hong Kong dollar", "Hong Kong dollars"),
    "SGD": ("Singapore dollar", "Singapore dollars"), "KRW": ("won", "won"), "BRL": ("Brazilian real", "Brazilian reais"),
    "MXN": ("Mexican peso", "Mexican pesos"), "ZAR": ("rand", "rand"), "TRY": ("Turkish lira", "Turkish lira"),
    "CZK": ("Czech koruna", "Czech korunas"), "THB": ("baht", "baht"), "AED": ("dirham", "dirhams"),
    "SAR": ("riyal", "riyals"), "RUB": ("rouble", "roubles"), "HUF": ("forint", "forints"), "RM": ("ringgit", "ringgit"), "ILS": ("shekel", "shekels"),
    "BTC": ("bitcoin", "bitcoins"), "ETH": ("ether", "ether"),
}  # fmt: skip
SCALES = {
    "k": "thousand", "m": "million", "mn": "million", "mio": "million", "mm": "million", "b": "billion", "bn": "billion",
    "tn": "trillion", "t": "trillion", "trn": "trillion", "cr": "crore",
}  # fmt: skip


@cache
def unit_name(written: str) -> str | None:
    """The singular name of a unit as written; in capitals too where that is no other unit: `60 MPH`."""
    name = UNITS.get(written)
    if name is None and len(written) > 1 and written.isupper() and written not in ("AT", "IN", "PT", "MO", "BAR", "HA"):
        name = UNITS.get(written.lower())
    return name


@cache
def plural(name: str) -> str:
    """`mile per hour` → miles per hour, `square foot` → square feet."""
    for joint in (" per ", " of "):
        head, found, tail = name.partition(joint)
        if found:
            return f"{plural(head)}{joint}{tail}"
    if name in _IRREGULAR:
        return _IRREGULAR[name]
    first, _, last = name.rpartition(" ")
    if first == "degree":
        return f"degrees {last}"
    return f"{first} {_IRREGULAR.get(last, last + 's')}".strip()
