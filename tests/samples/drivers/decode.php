<?php // Decodes bodies with the sample in PHP: hexadecimal in, one per line; plain JSON out.
require __DIR__ . '/../../../consumers/samples/subscriber.php';
ini_set('serialize_precision', '-1'); // floats with all their digits

function plain($value) { // JSON has no NaN and no infinity; an empty map comes as an object, all others as arrays
    if (is_array($value)) return array_map('plain', $value);
    if (!is_float($value) || is_finite($value)) return $value;
    return ['$float' => is_nan($value) ? 'NaN' : ($value > 0 ? 'Infinity' : '-Infinity')];
}

while (($line = fgets(STDIN)) !== false) {
    say(json_encode(plain(decode(hex2bin(trim($line)))), JSON_UNESCAPED_UNICODE | JSON_UNESCAPED_SLASHES | JSON_THROW_ON_ERROR));
}
