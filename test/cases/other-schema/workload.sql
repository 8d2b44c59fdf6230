CREATE DATABASE `{schema}_side`;
RENAME TABLE other_schema TO `{schema}_side`.moved, other_schema_back TO `{schema}_side`.back;
INSERT INTO `{schema}_side`.back VALUES (2, 'while it was away');
CREATE TABLE `{schema}_side`.t (id INT, v JSON);
INSERT INTO `{schema}_side`.t VALUES (1, '{}');
RENAME TABLE `{schema}_side`.back TO other_schema_back;
UPDATE other_schema_back SET v = 'home again' WHERE id = 1;
DROP DATABASE `{schema}_side`;
